import BackplaneABI
import Glibc
import IsolationWire
import Synchronization

/// A plugin that lives in a child process, as the kernel sees it: the tables of any plugin. Nothing behind `Instance`
/// knows the difference, and the instance stays the same when the child crashes and another takes its place.
///
/// All data functions are asynchronous. While there is no child they are refused at once, retryable, with the time after
/// which another try is worth it.
final class ProxyPlugin: @unchecked Sendable {
  // @unchecked: the tables are written by life-cycle functions before the instance is published; everything that
  // changes later is under a lock or atomic.

  /// What is hosted.
  struct Subject: Sendable {
    var plugin: VerifiedPlugin
    var limits: SlotConfiguration.ProcessLimits
  }

  unowned let instance: Instance
  let subject: Subject
  let settings: IsolationSettings
  let table: UnsafeMutablePointer<bp_plugin>
  private let backendTable = UnsafeMutablePointer<bp_backend>.allocate(capacity: 1)
  private let queryTable = UnsafeMutablePointer<bp_backend_query>.allocate(capacity: 1)
  private let schemaTable = UnsafeMutablePointer<bp_schema>.allocate(capacity: 1)
  private let transportTable = UnsafeMutablePointer<bp_transport>.allocate(capacity: 1)
  private let serviceTable = UnsafeMutablePointer<bp_service>.allocate(capacity: 1)
  private let stateTable = UnsafeMutablePointer<bp_state>.allocate(capacity: 1)
  private var facts = PluginFacts()
  let canonicalAnswers = CanonicalAnswers()
  /// Where the messages of open judgements lie, by place.
  let judgements = OpenMessages()

  enum Phase: Sendable {
    /// Not started, or ended.
    case idle
    case up(Link)
    /// Another child comes at `nextNs`; `isBreakerOpen` when it crashed too often.
    case down(nextNs: UInt64, isBreakerOpen: Bool)
  }
  private struct State {
    var phase = Phase.idle
    /// The child of a life-cycle that is under way.
    var link: Link?
    var configuration: Configuration?
    /// It serves: a crash is mended.
    var isServing = false
    var isEnding = false
    var crashesNs: [UInt64] = []
    var restarts: UInt64 = 0
    var crashes: UInt64 = 0
    /// Set when the restart that is under way has ended.
    var restart: Promise<Bool>?
    var lastCrash = ""
    var refused: UInt64 = 0
  }
  private struct Configuration: Sendable {
    var purpose: UInt32
    var slot: [UInt8]
    var json: [UInt8]
    var stateDirectory: [UInt8]
  }
  private let state = Mutex(State())
  private let ending = Promise<Bool>()

  init(_ instance: Instance, _ subject: Subject, _ settings: IsolationSettings) {
    self.instance = instance
    self.subject = subject
    self.settings = settings
    table = .allocate(capacity: 1)
    table.initialize(to: ProxyTables.plugin)
    backendTable.initialize(to: bp_backend())
    queryTable.initialize(to: ProxyTables.queries)
    schemaTable.initialize(to: bp_schema())
    transportTable.initialize(to: bp_transport())
    serviceTable.initialize(to: bp_service())
    stateTable.initialize(to: bp_state())
    // `.self` in Swift is the struct itself; the field of that name is written by its place.
    UnsafeMutableRawPointer(table).storeBytes(
      of: Unmanaged.passUnretained(self).toOpaque(), toByteOffset: 8, as: UnsafeMutableRawPointer.self)
  }

  deinit {
    table.deallocate()
    backendTable.deallocate()
    queryTable.deallocate()
    schemaTable.deallocate()
    transportTable.deallocate()
    serviceTable.deallocate()
    stateTable.deallocate()
  }

  @inline(__always)
  static func at(_ pointer: UnsafeMutableRawPointer?) -> ProxyPlugin {
    Unmanaged<ProxyPlugin>.fromOpaque(pointer!).takeUnretainedValue()
  }

  func table(_ id: String) -> UnsafeRawPointer? {
    switch id {
    case "backplane.backend/1" where facts.backend != nil: UnsafeRawPointer(backendTable)
    case "backplane.backend.query/1" where facts.backend?.answersQueries == true: UnsafeRawPointer(queryTable)
    case "backplane.schema/1" where facts.schema != nil: UnsafeRawPointer(schemaTable)
    case "backplane.transport/1" where facts.isTransport: UnsafeRawPointer(transportTable)
    case "backplane.service/1" where facts.service != nil: UnsafeRawPointer(serviceTable)
    case "backplane.state/1" where facts.state != nil: UnsafeRawPointer(stateTable)
    default: nil
    }
  }

  private func take(_ facts: PluginFacts) {
    self.facts = facts
    if let backend = facts.backend { backendTable.pointee = ProxyTables.backend(backend) }
    if let schema = facts.schema { schemaTable.pointee = ProxyTables.schema(schema) }
    transportTable.pointee = ProxyTables.transport
    if let service = facts.service { serviceTable.pointee = ProxyTables.service(service) }
    if let state = facts.state { stateTable.pointee = ProxyTables.state(state) }
  }

  var programs: [PluginFacts.Program] { facts.schema?.programs ?? [] }

  // MARK: Life cycle

  /// One function's end, reported; the code to return.
  private func report(_ answer: LifeCycleAnswer?, _ step: String, _ report: UnsafePointer<bp_report>?) -> bp_code {
    guard let answer else {
      add("its process ended in \(step)\(lastCrashClause)", to: report)
      return BP_UNAVAILABLE
    }
    for diagnostic in answer.diagnostics {
      add(diagnostic.message, pointer: diagnostic.pointer, severity: diagnostic.severity, to: report)
    }
    return answer.code
  }

  private var lastCrashClause: String {
    let text = state.withLock { $0.lastCrash }
    return text.isEmpty ? "" : ": \(text)"
  }

  private func add(
    _ message: String, pointer: String = "", severity: UInt32 = BP_SEVERITY_ERROR, to report: UnsafePointer<bp_report>?
  ) {
    guard let report else { return }
    var message = message
    var pointer = pointer
    message.withUTF8 { message in
      pointer.withUTF8 { pointer in
        var diagnostic = bp_diagnostic(
          size: UInt32(MemoryLayout<bp_diagnostic>.size), severity: severity, pointer: bp_view(pointer),
          message: bp_view(message))
        report.pointee.add(report.pointee.context, &diagnostic)
      }
    }
  }

  private func boundNs() -> UInt64 { Clock.monotonicNs() + UInt64(settings.startTimeoutMs) * 1_000_000 }

  /// A life-cycle function of the child that is there. A link that ended meanwhile is waited for, so that what it died of
  /// can be said.
  private func step(_ name: String, _ kind: FrameKind, untilNs deadlineNs: UInt64) -> LifeCycleAnswer? {
    guard let link = state.withLock({ $0.link }) else { return nil }
    let answer = link.step(name, untilNs: deadlineNs) { link.connection.sendStep($0, kind, deadlineNs: deadlineNs) }
    if answer == nil { _ = link.ended.get() }
    return answer
  }

  /// `bp_entry.create`: brings up a child with the file mapped.
  func create(_ report: UnsafePointer<bp_report>?) -> bp_code {
    switch spawn() {
    case .failure(let failure):
      add(failure.sentence, to: report)
      return BP_UNAVAILABLE
    case .success(let link):
      state.withLock { $0.link = link }
      let code = self.report(greet(link), "loading", report)
      guard code == BP_OK else { return abandon(code) }
      let created = self.report(step("create", .create, untilNs: boundNs()), "create", report)
      return created == BP_OK ? created : abandon(created)
    }
  }

  /// A create that failed leaves nothing behind.
  private func abandon(_ code: bp_code) -> bp_code {
    let link = state.withLock { state in
      defer { state.link = nil }
      return state.link
    }
    link?.close(untilNs: Clock.monotonicNs() + 1_000_000_000)
    return code
  }

  private func spawn() -> Result<Link, ChildSpawner.Failure> {
    HostProcess.start(
      settings.hostExecutable, slot: instance.slot.name, sharedBytes: settings.sharedMemorySizeBytes
    ).flatMap { process, ends in
      let link = Link(process, ends, waitingBytesMax: settings.waitingSizeBytesMax)
      return run(link) ? .success(link) : .failure(ChildSpawner.Failure(sentence: "the system has no thread to give"))
    }
  }

  private func run(_ link: Link) -> Bool {
    let reader = ProxyReader(self, link)
    let handle = instance.handle
    return link.run(
      name: instance.slot.name, reader: reader, answer: { reader.answer($0, $1) },
      isStillOpen: { CallSlab.shared.operation(handle, $0) != nil }, cancelGraceMs: settings.cancelGraceMs,
      whenEnded: { [self] in linkEnded(link, $0) })
  }

  /// Takes an instance in another kernel's place of a child: one that is started there and answers on `descriptor`. False
  /// when it does not answer.
  func attach(_ descriptor: Int32, canonical: Int32?, untilNs deadlineNs: UInt64) -> Bool {
    let link = Link(
      nil, HostProcess.Ends(calls: descriptor, canonical: canonical), waitingBytesMax: settings.waitingSizeBytesMax)
    guard run(link) else { return false }
    state.withLock { $0.link = link }
    let greeting = Greeting(
      stagedPath: "", slot: instance.slot.name, pluginID: instance.image.id, pluginVersion: instance.image.version,
      neededLibraries: [], extensions: [], memorySizeBytesMax: 0, descriptorsMax: 0, cpuSecondsMax: 0)
    let answer = link.step("connecting", untilNs: deadlineNs) { link.connection.sendGreeting($0, greeting) }
    guard let answer, answer.code == BP_OK, let facts = answer.facts else {
      _ = abandon(BP_UNAVAILABLE)
      return false
    }
    take(facts)
    // Nobody mends it: when the other side goes, calls are refused.
    state.withLock { $0.phase = .up(link) }
    return true
  }

  private func greet(_ link: Link) -> LifeCycleAnswer? {
    let plugin = subject.plugin
    let greeting = Greeting(
      stagedPath: plugin.stagedPath, slot: instance.slot.name, pluginID: plugin.manifest.id,
      pluginVersion: plugin.manifest.version, neededLibraries: plugin.neededLibraries,
      extensions: HostTable.extensions, memorySizeBytesMax: UInt64(subject.limits.memorySizeBytesMax),
      descriptorsMax: UInt64(subject.limits.descriptorsMax), cpuSecondsMax: UInt64(subject.limits.cpuSecondsMax))
    let answer = link.step("loading", untilNs: boundNs()) { link.connection.sendGreeting($0, greeting) }
    if answer == nil { _ = link.ended.get() }
    return answer
  }

  func configure(_ configuration: UnsafePointer<bp_configuration>, _ report: UnsafePointer<bp_report>?) -> bp_code {
    let kept = Configuration(
      purpose: configuration.pointee.purpose, slot: Array(configuration.pointee.slot.bytes),
      json: Array(configuration.pointee.json.bytes), stateDirectory: Array(configuration.pointee.state_directory.bytes))
    guard let link = state.withLock({ $0.link }) else { return self.report(nil, "configure", report) }
    let answer = configure(link, kept)
    let code = self.report(answer, "configure", report)
    if code == BP_OK, let facts = answer?.facts {
      state.withLock { $0.configuration = kept }
      take(facts)
    }
    return code
  }

  private func configure(_ link: Link, _ configuration: Configuration) -> LifeCycleAnswer? {
    func view(_ bytes: [UInt8], _ body: (bp_view) -> LifeCycleAnswer?) -> LifeCycleAnswer? {
      bytes.withUnsafeBufferPointer { body(bp_view($0)) }
    }
    let answer = view(configuration.slot) { slot in
      view(configuration.json) { json in
        view(configuration.stateDirectory) { directory in
          var whole = bp_configuration(
            size: UInt32(MemoryLayout<bp_configuration>.size), purpose: configuration.purpose, slot: slot, json: json,
            state_directory: directory)
          return link.step("configure", untilNs: boundNs()) { link.connection.sendConfigure($0, &whole) }
        }
      }
    }
    if answer == nil { _ = link.ended.get() }
    return answer
  }

  func start(_ deadlineNs: UInt64, _ report: UnsafePointer<bp_report>?) -> bp_code {
    // Calls may come, and go, before start has returned: a transport accepts within its own.
    guard let link = state.withLock({ $0.link }) else { return self.report(nil, "start", report) }
    state.withLock { $0.phase = .up(link) }
    let code = self.report(step("start", .start, untilNs: deadlineNs), "start", report)
    guard code == BP_OK else {
      state.withLock { $0.phase = .idle }
      return code
    }
    let isAlive = state.withLock { state -> Bool in
      guard state.link === link else { return false }
      state.isServing = true
      return true
    }
    return isAlive ? BP_OK : self.report(nil, "start", report)
  }

  /// Neither of the two below finds fault with a child that is gone: there is nothing left to do.
  func quiesce(_ deadlineNs: UInt64, _ report: UnsafePointer<bp_report>?) -> bp_code {
    stopMending()
    guard state.withLock({ $0.link }) != nil else { return BP_OK }
    return step("quiesce", .quiesce, untilNs: deadlineNs).map { self.report($0, "quiesce", report) } ?? BP_OK
  }

  func stop(_ deadlineNs: UInt64, _ report: UnsafePointer<bp_report>?) -> bp_code {
    stopMending()
    guard state.withLock({ $0.link }) != nil else { return BP_OK }
    return step("stop", .stop, untilNs: deadlineNs).map { self.report($0, "stop", report) } ?? BP_OK
  }

  /// From now on a crash is not mended, and a restart that is under way is given up.
  private func stopMending() {
    let (restart, link) = state.withLock { state -> (Promise<Bool>?, Link?) in
      state.isServing = false
      state.isEnding = true
      return (state.restart, state.restart == nil ? nil : state.link)
    }
    ending.set(true)
    guard let restart else { return }
    link?.kill("the instance is being stopped")
    _ = restart.get()
  }

  /// Ends the child. Returns when it is reaped and no thread of the proxy's is left.
  func destroy() {
    stopMending()
    let link = state.withLock { state in
      defer { state.link = nil }
      state.phase = .idle
      return state.link
    }
    guard let link else { return }
    let deadlineNs = boundNs()
    link.expectEnd()
    _ = link.step("destroy", untilNs: deadlineNs) { link.connection.sendStep($0, .destroy, deadlineNs: deadlineNs) }
    link.close(untilNs: Clock.monotonicNs() + 1_000_000_000)
  }

  /// Ends the child at once, as if it had crashed; another takes its place. `reason` completes "it was ended: ...".
  func kill(_ reason: String) { state.withLock { $0.link }?.kill(reason) }

  // MARK: Calls

  /// The link that calls go to, or why there is none.
  @inline(__always)
  func current() -> Phase { state.withLock { $0.phase } }

  func hasEndedWithoutSubmitting(_ token: bp_token, _ outcome: Connection.Outcome) {
    switch outcome {
    case .sent: return
    case .full:
      state.withLock { $0.refused += 1 }
      complete(
        token,
        CallFailure(
          code: BP_RESOURCE_EXHAUSTED,
          "more than \(settings.waitingSizeBytesMax) bytes wait for the process of slot '\(instance.slot.name)' "
            + "(isolation.waiting_size_bytes_max)", isRetryable: true))
    case .closed: refuse(token)
    }
  }

  /// There is no child.
  func refuse(_ token: bp_token) { complete(token, absence()) }

  func absence() -> CallFailure {
    let name = instance.slot.name
    switch current() {
    case .down(let nextNs, let isBreakerOpen):
      let now = Clock.monotonicNs()
      let leftMs = nextNs > now ? (nextNs - now) / 1_000_000 : 0
      var failure = CallFailure(
        code: BP_UNAVAILABLE,
        isBreakerOpen
          ? "the process of slot '\(name)' keeps crashing and rests before another try"
          : "the process of slot '\(name)' has crashed and is being restarted", isRetryable: true)
      // A restart takes some milliseconds.
      failure.retryAfterMs = UInt32(clamping: leftMs + 20)
      return failure
    case .up:
      var failure = CallFailure(code: BP_UNAVAILABLE, "the process of slot '\(name)' has crashed", isRetryable: true)
      failure.retryAfterMs = 20
      return failure
    case .idle:
      return CallFailure(code: BP_UNAVAILABLE, "the process of slot '\(name)' has ended", isRetryable: true)
    }
  }

  private func complete(_ token: bp_token, _ failure: CallFailure) {
    let handle = instance.handle
    Answers.with(failure, as: bp_list_result.self) { _ = CallSlab.shared.complete(handle, token, $0) }
  }

  /// The end of life of a canonical form: remembered, or asked.
  func canonical(_ uri: bp_view, _ sink: bp_sink) -> bp_code {
    if let known = canonicalAnswers.find(uri.bytes) {
      known.withUnsafeBufferPointer { if !$0.isEmpty { sink.write(sink.context, bp_view($0)) } }
      return BP_OK
    }
    guard case .up(let link) = current(), let answer = link.canonicalForm(uri) else { return BP_UNAVAILABLE }
    guard answer.code == BP_OK else { return answer.code }
    canonicalAnswers.keep(answer.bytes, for: uri.bytes)
    answer.bytes.withUnsafeBufferPointer { if !$0.isEmpty { sink.write(sink.context, bp_view($0)) } }
    return BP_OK
  }

  // MARK: Crashes

  private func linkEnded(_ link: Link, _ ended: Link.Ended) {
    let report = ChildCrash(
      ended.report, stagedPath: subject.plugin.stagedPath,
      file: String(subject.plugin.sourcePath.split(separator: "/").last ?? "plugin"))
    enum Next { case nothing, tell, mend }
    let next = state.withLock { state -> Next in
      let frames = report.top(6)
      state.lastCrash = frames.isEmpty ? ended.cause : "\(ended.cause) in \(frames)"
      guard state.link === link, !ended.wasExpected else { return .nothing }
      state.link = nil
      state.crashes += 1
      // A restart that is under way sees for itself that its child is gone.
      guard state.restart == nil else { return .nothing }
      // Before anything is failed, so that no new call goes to where nobody is.
      state.phase = .idle
      return state.isServing ? .mend : .tell
    }
    switch next {
    case .nothing: return
    case .tell: tell(ended, report, lost: failOpenCalls(), next: "not restarted")
    case .mend: mend(after: ended, report)
    }
  }

  /// Every call that the child had is failed, and what it had open in the node is given up.
  private func failOpenCalls() -> Int {
    let tokens = CallSlab.shared.openTokens(of: instance)
    let failure = absence()
    for token in tokens {
      Answers.with(failure, as: bp_list_result.self) { CallSlab.shared.revoke(token, $0) }
    }
    instance.kernel.requests.cancelAll(of: instance)
    instance.kernel.feed.cancelAll(of: instance.handle)
    instance.kernel.timers.cancelAll(of: instance.handle)
    return tokens.count
  }

  private func tell(_ ended: Link.Ended, _ report: ChildCrash, lost: Int, next: String) {
    var fields = [
      "slot": instance.slot.name, "plugin": instance.image.id, "version": instance.image.version, "cause": ended.cause,
      "calls_failed": "\(lost)", "next": next,
    ]
    if !report.frames.isEmpty { fields["frames"] = report.top(8) }
    instance.kernel.log.error("the process of an isolated plugin ended", fields)
  }

  private func mend(after ended: Link.Ended, _ report: ChildCrash) {
    let now = Clock.monotonicNs()
    let (delayMs, isOpen) = state.withLock { state -> (Int, Bool) in
      state.crashesNs.append(now)
      state.crashesNs.removeAll { now &- $0 > UInt64(settings.crashWindowMs) * 1_000_000 }
      let plan = RestartPlan(crashesInWindow: state.crashesNs.count, settings)
      state.phase = .down(nextNs: now + UInt64(plan.delayMs) * 1_000_000, isBreakerOpen: plan.isBreakerOpen)
      return (plan.delayMs, plan.isBreakerOpen)
    }
    let lost = failOpenCalls()
    tell(
      ended, report, lost: lost,
      next: isOpen
        ? "breaker open for \(delayMs) ms" : delayMs == 0 ? "restarted at once" : "restarted in \(delayMs) ms")
    instance.health = (
      BP_HEALTH_UNHEALTHY,
      isOpen
        ? "its process keeps crashing (\(ended.cause)); no new one is started for \(delayMs) ms"
        : "its process crashed (\(ended.cause)) and is being restarted"
    )
    if instance.image.manifest.isVolatile { loseRecords() }
    restart(afterMs: delayMs)
  }

  /// What it kept in memory is gone. Beside other backends it has missed writes that they have.
  private func loseRecords() {
    guard instance.backend != nil, let lease = instance.kernel.ring.acquire() else { return }
    defer { instance.kernel.ring.release(lease) }
    guard lease.generation.backends.count > 1 else { return }
    instance.kernel.repairs.lost(instance, reason: "its process crashed, and its records were in memory")
  }

  private func restart(afterMs delayMs: Int) {
    let done = Promise<Bool>()
    let isWanted = state.withLock { state -> Bool in
      guard !state.isEnding, state.isServing else { return false }
      state.restart = done
      return true
    }
    guard isWanted else { return }
    let thread = Thread.start(name: "bp-restart") { [self] in
      defer { done.set(true) }
      if delayMs > 0, ending.get(untilNs: Clock.monotonicNs() + UInt64(delayMs) * 1_000_000) != nil { return }
      bringBack()
    }
    guard let thread else {
      state.withLock { $0.restart = nil }
      instance.kernel.log.error(
        "an isolated plugin cannot be restarted: the system has no thread to give", ["slot": instance.slot.name])
      done.set(false)
      return
    }
    pthread_detach(thread)
  }

  /// A new child in the place of the one that crashed.
  private func bringBack() {
    let beganNs = Clock.monotonicNs()
    var problem = bringUp()
    let (isUp, isEnding, left) = state.withLock { state -> (Bool, Bool, Link?) in
      state.restart = nil
      if problem == nil, !state.isEnding, let link = state.link {
        state.phase = .up(link)
        state.restarts += 1
        return (true, false, nil)
      }
      // Taken out here, so that its end is no crash of an instance that serves.
      defer { state.link = nil }
      if problem == nil { problem = state.lastCrash }
      return (false, state.isEnding, state.link)
    }
    guard !isUp else {
      instance.health = (BP_HEALTH_HEALTHY, "")
      // What is told once to an instance is told to each process that has it.
      ServiceNotice.tellAgain(instance, timeoutMs: settings.startTimeoutMs)
      instance.kernel.log.notice(
        "the process of an isolated plugin was restarted",
        [
          "slot": instance.slot.name, "plugin": instance.image.id,
          "duration_ms": "\(Double((Clock.monotonicNs() - beganNs) / 10_000) / 100)",
        ])
      return
    }
    left?.close(untilNs: Clock.monotonicNs() + 1_000_000_000)
    guard !isEnding else { return }
    mend(
      after: Link.Ended(wasExpected: false, cause: problem ?? "it ended", report: ""),
      ChildCrash("", stagedPath: "", file: ""))
  }

  /// Nil, or why it failed.
  private func bringUp() -> String? {
    guard let configuration = state.withLock({ $0.configuration }) else { return "it was never configured" }
    let link: Link
    switch spawn() {
    case .failure(let failure): return failure.sentence
    case .success(let started): link = started
    }
    let isWanted = state.withLock { state -> Bool in
      guard !state.isEnding else { return false }
      state.link = link
      return true
    }
    guard isWanted else {
      link.close(untilNs: Clock.monotonicNs() + 1_000_000_000)
      return "it is being stopped"
    }
    func failed(_ answer: LifeCycleAnswer?, _ step: String) -> String? {
      if answer?.code == BP_OK { return nil }
      guard let answer else { return "its process ended in \(step)\(lastCrashClause)" }
      let reason = answer.diagnostics.map(\.message).joined(separator: "; ")
      return "\(step) failed: \(reason.isEmpty ? CodeNames.name(answer.code) : reason)"
    }
    if let problem = failed(greet(link), "loading") { return problem }
    if let problem = failed(step("create", .create, untilNs: boundNs()), "create") { return problem }
    let configured = configure(link, configuration)
    if let problem = failed(configured, "configure") { return problem }
    guard configured?.facts == facts else { return "it is not what it was: its tables differ from those at its start" }
    return failed(step("start", .start, untilNs: boundNs()), "start")
  }

  /// For status and metrics.
  struct Counts: Sendable {
    var restarts: UInt64
    var crashes: UInt64
    var refused: UInt64
    var isUp: Bool
    var isBreakerOpen: Bool
    var waitingBytes: Int
  }

  var counts: Counts {
    state.withLock { state in
      var isUp = false
      var isOpen = false
      switch state.phase {
      case .up: isUp = true
      case .down(_, let isBreakerOpen): isOpen = isBreakerOpen
      case .idle: break
      }
      return Counts(
        restarts: state.restarts, crashes: state.crashes, refused: state.refused, isUp: isUp, isBreakerOpen: isOpen,
        waitingBytes: state.link?.connection.waitingBytes ?? 0)
    }
  }
}

/// When the next child is started after a crash.
struct RestartPlan: Equatable {
  var delayMs: Int
  var isBreakerOpen: Bool

  /// The first crash is mended at once, later ones after 100 ms, 200 ms, ... up to a bound; too many open the breaker.
  init(crashesInWindow: Int, _ settings: IsolationSettings) {
    isBreakerOpen = crashesInWindow > settings.crashesMax
    if isBreakerOpen {
      delayMs = settings.breakerOpenMs
    } else if crashesInWindow <= 1 {
      delayMs = 0
    } else {
      delayMs = min(settings.restartDelayMsMax, 100 << min(20, crashesInWindow - 2))
    }
  }
}
