import BackplaneABI
import Glibc
import IsolationWire
import Synchronization
import SystemShims

/// The kernel's end of one connection to a plugin that lives elsewhere: in a child, or in another kernel.
///
/// Two threads. The reader blocks on the stream and completes calls; the attendant waits for questions and for the end
/// of the process. Both end with the link.
final class Link: @unchecked Sendable {
  // @unchecked: fixed in init, but for what is atomic or under locks.
  let connection: Connection
  /// Nil when the plugin is not in a child of ours.
  let process: HostProcess?
  /// Nil where the other side asks nothing.
  private let questions: AskingSocket?
  private let canonical: AskingSocket?
  /// -1: crashes are not reported.
  private let crashes: Int32
  private let wake: Int32

  /// Life-cycle functions that have not come back.
  private let answers = Mutex<(next: UInt64, open: [UInt64: Promise<LifeCycleAnswer?>], isEnded: Bool)>((1, [:], false))
  /// Calls that the plugin has open in the node: its name for each, and the node's token.
  private let forwarded = Mutex<[UInt64: bp_token]>([:])
  /// Calls that were given up and not completed yet, and since when.
  private let cancelled = Mutex<[bp_token: UInt64]>([:])
  /// Why it was killed.
  private let killReason = Mutex<String?>(nil)
  /// It is to end: no accident.
  private let isExpected = Atomic<Bool>(false)
  private let isDead = Atomic<Bool>(false)
  let connectionCount = Atomic<UInt64>(0)
  /// Set when both threads have ended and everything is closed.
  let ended = Promise<Ended>()

  struct Ended: Sendable {
    var wasExpected: Bool
    /// `SIGSEGV`; or why the kernel ended it.
    var cause: String
    var report: String
  }

  /// How long a question may take, either way: they are answered without waiting for anything.
  static let questionTimeoutMs: UInt32 = 1000
  static let forwardedMax = 65_536
  private static let dyingMs: Int32 = 200
  private static let reportBytesMax = 64 << 10

  init(_ process: HostProcess?, _ ends: HostProcess.Ends, waitingBytesMax: Int) {
    self.process = process
    connection = Connection(
      ends.calls, memory: ends.memory, patience: .handsOver, waitingBytesMax: waitingBytesMax)
    questions = ends.questions.map { AskingSocket($0, timeoutMs: Link.questionTimeoutMs) }
    canonical = ends.canonical.map { AskingSocket($0, timeoutMs: Link.questionTimeoutMs) }
    crashes = ends.crashes ?? -1
    wake = bp_shim_eventfd()
  }

  deinit {
    if crashes >= 0 { Glibc.close(crashes) }
    if wake >= 0 { Glibc.close(wake) }
  }

  /// Begins to read. `answer` handles one question; false breaks the rules. `whenEnded` runs on the attendant's thread,
  /// as the last thing.
  func run(
    name: String, reader handler: any FrameHandler & Sendable,
    answer: @escaping @Sendable (AskingSocket, AskingSocket.Question) -> Bool,
    isStillOpen: @escaping @Sendable (bp_token) -> Bool, cancelGraceMs: Int,
    whenEnded: @escaping @Sendable (Ended) -> Void
  ) -> Bool {
    let reader = Thread.start(name: "bp-\(name)") { [self] in
      if case .violation(let sentence) = Receiver.run(connection, .copies, handler) { kill(sentence) }
      endWithItsConnection()
      isDead.store(true, ordering: .releasing)
      _ = bp_shim_eventfd_signal(wake)
    }
    guard let reader else { return false }
    let attendant = Thread.start(name: "bp-\(name)") { [self] in
      attend(answer, isStillOpen, cancelGraceMs)
      connection.shutDown()
      pthread_join(reader, nil)
      connection.finish()
      let ending = end()
      whenEnded(ending)
      ended.set(ending)
    }
    guard let attendant else {
      kill("the system has no thread to give")
      connection.shutDown()
      pthread_join(reader, nil)
      return false
    }
    pthread_detach(attendant)
    return true
  }

  // MARK: The attendant

  private func attend(
    _ answer: (AskingSocket, AskingSocket.Question) -> Bool, _ isStillOpen: (bp_token) -> Bool, _ cancelGraceMs: Int
  ) {
    var questionsAreOpen = questions != nil
    while true {
      var polled = [
        pollfd(fd: process?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
        pollfd(fd: questionsAreOpen ? questions!.descriptor : -1, events: Int16(POLLIN), revents: 0),
        pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
      ]
      // Only while there is something to look after.
      let timeoutMs: Int32 = cancelled.withLock { $0.isEmpty } ? -1 : Int32(min(1000, max(10, cancelGraceMs)))
      _ = poll(&polled, 3, timeoutMs)
      if polled[0].revents != 0 { return }
      if process == nil, isDead.load(ordering: .acquiring) { return }
      if polled[2].revents != 0 {
        var counter: UInt64 = 0
        _ = read(wake, &counter, 8)
      }
      if polled[1].revents != 0 {
        if let questions, let question = try? questions.next() {
          if !answer(questions, question) { kill("it asked what nobody can answer") }
        } else {
          questionsAreOpen = false
          endWithItsConnection()
        }
      }
      lookAfterCancelled(isStillOpen, cancelGraceMs)
    }
  }

  /// A process that closed its end and lives on is not one that can be talked to. One that is dying closes it a moment
  /// before it is dead, and has a cause of its own.
  private func endWithItsConnection() {
    guard let process, !isExpected.load(ordering: .acquiring) else { return }
    var polled = pollfd(fd: process.descriptor, events: Int16(POLLIN), revents: 0)
    if poll(&polled, 1, Link.dyingMs) == 0 { kill("it closed its connection") }
  }

  private func lookAfterCancelled(_ isStillOpen: (bp_token) -> Bool, _ graceMs: Int) {
    let now = Clock.monotonicNs()
    let late = cancelled.withLock { cancelled -> Bool in
      cancelled = cancelled.filter { isStillOpen($0.key) }
      return cancelled.values.contains { now &- $0 > UInt64(graceMs) * 1_000_000 }
    }
    if late {
      kill("it had not completed a call \(graceMs) ms after the call was cancelled (isolation.cancel_grace_ms)")
    }
  }

  /// Everything is over: what waits is told, and the process is reaped.
  private func end() -> Ended {
    let open = answers.withLock { answers in
      answers.isEnded = true
      defer { answers.open = [:] }
      return answers.open
    }
    for promise in open.values { promise.set(nil) }
    questions?.shutDown()
    canonical?.shutDown()
    var report: [UInt8] = []
    if crashes >= 0 {
      // The last process that could write is gone, but for children of its own.
      _ = fcntl(crashes, F_SETFL, O_NONBLOCK)
      var chunk = [UInt8](repeating: 0, count: 4096)
      while report.count < Link.reportBytesMax {
        let count = read(crashes, &chunk, chunk.count)
        guard count > 0 else { break }
        report.append(contentsOf: chunk[..<count])
      }
    }
    let ending = process?.wait()
    let reason = killReason.withLock { $0 }
    let wasKilled = ending.map { $0.signal == SIGKILL } ?? true
    return Ended(
      wasExpected: isExpected.load(ordering: .acquiring),
      cause: wasKilled ? reason ?? "SIGKILL" : ending?.cause ?? "its connection ended",
      report: String(decoding: report, as: UTF8.self))
  }

  // MARK: Ending

  /// Ends the process at once; `reason` completes "it was ended because ...".
  func kill(_ reason: String) {
    killReason.withLock { $0 = $0 ?? reason }
    process?.kill()
    if process == nil { connection.shutDown() }
  }

  /// What follows is no accident.
  func expectEnd() { isExpected.store(true, ordering: .releasing) }

  /// Asks the process to end, and waits for it; kills it at `deadlineNs`. Not on a thread of the link's.
  func close(untilNs deadlineNs: UInt64) {
    expectEnd()
    connection.shutDown()
    if process == nil {
      isDead.store(true, ordering: .releasing)
      _ = bp_shim_eventfd_signal(wake)
    }
    if ended.get(untilNs: deadlineNs) == nil {
      kill("it did not end")
      _ = ended.get()
    }
  }

  // MARK: Life cycle

  /// Sends one life-cycle frame and waits for its answer; nil when the link ended first or `deadlineNs` passed, when the
  /// process is killed.
  func step(_ name: String, untilNs deadlineNs: UInt64, _ send: (UInt64) -> Connection.Outcome) -> LifeCycleAnswer? {
    let promise = Promise<LifeCycleAnswer?>()
    let id = answers.withLock { answers -> UInt64? in
      guard !answers.isEnded else { return nil }
      defer { answers.next += 1 }
      answers.open[answers.next] = promise
      return answers.next
    }
    guard let id else { return nil }
    guard send(id) == .sent else {
      _ = answers.withLock { $0.open.removeValue(forKey: id) }
      return nil
    }
    if let answer = promise.get(untilNs: deadlineNs) { return answer }
    kill("it did not come back from \(name) in time")
    return nil
  }

  func answered(_ id: UInt64, _ answer: LifeCycleAnswer) -> Bool {
    guard let promise = answers.withLock({ $0.open.removeValue(forKey: id) }) else { return false }
    promise.set(answer)
    return true
  }

  // MARK: Calls

  /// A call was given up; somebody looks that it is completed.
  func cancel(_ token: bp_token) {
    let isFirst = cancelled.withLock { cancelled -> Bool in
      defer { if cancelled[token] == nil { cancelled[token] = Clock.monotonicNs() } }
      return cancelled.isEmpty
    }
    connection.sendCancel(token)
    if isFirst { _ = bp_shim_eventfd_signal(wake) }
  }

  /// The canonical form of a URI, as the plugin's side says it.
  func canonicalForm(_ uri: bp_view) -> (code: bp_code, bytes: [UInt8])? {
    guard let canonical else { return nil }
    do throws(AskingSocket.Failure) {
      return try canonical.askCanonical(uri)
    } catch {
      if case .timedOut = error { kill("it did not say a URI's canonical form within \(Link.questionTimeoutMs) ms") }
      return nil
    }
  }

  // MARK: Calls to the node

  /// False when the plugin has such a call open already, or too many.
  func beginForwarded(_ id: UInt64) -> Bool {
    forwarded.withLock { forwarded in
      guard forwarded.count < Link.forwardedMax, forwarded[id] == nil else { return false }
      forwarded[id] = 0
      return true
    }
  }

  /// The node has taken it under `token`; does nothing when it has been completed.
  func forwarded(_ id: UInt64, as token: bp_token) {
    guard token != 0 else { return }
    forwarded.withLock { forwarded in
      if forwarded[id] != nil { forwarded[id] = token }
    }
  }

  func endForwarded(_ id: UInt64) { _ = forwarded.withLock { $0.removeValue(forKey: id) } }

  func forwardedToken(_ id: UInt64) -> bp_token { forwarded.withLock { $0[id] ?? 0 } }
}
