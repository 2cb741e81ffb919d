import PluginAPI
import PluginTestHost
import Synchronization
import Testing

/// Writes down what happens to it, and does what its configuration says.
private final class Clerk: Service {
  struct Configuration: Decodable {
    var failsReady: Bool?
    var failsWork: Bool?
  }
  /// By slot.
  static let clerks = Mutex<[String: Clerk]>([:])

  let context: Context
  private let configuration: Configuration
  let events = Mutex<[String]>([])

  init(_ configuration: Configuration, _ context: Context) {
    self.configuration = configuration
    self.context = context
    Clerk.clerks.withLock { $0[context.slot] = self }
  }

  func note(_ event: String) { events.withLock { $0.append(event) } }

  func nodeReady(_ deadline: Deadline) async throws {
    note("ready \(deadline.monotonicNs > TimerAccess.nowNs)")
    if configuration.failsReady == true { throw Failure.unavailable("the clerk was told to fail") }
  }

  func run() async throws {
    note("works")
    if configuration.failsWork == true { throw Failure.internal("the clerk's work went wrong") }
    do {
      while true {
        try await context.timer.sleep(for: .seconds(60))
        try await context.node.receive("clerk://minutes/\(events.withLock { $0.count })", Array("1".utf8))
        note("minute")
      }
    } catch {
      note("work ends: \(error is CancellationError)")
      throw error
    }
  }

  func nodeEnding(_ deadline: Deadline) async {
    try? await context.node.receive("clerk://end", Array("1".utf8))
    note("ending")
  }

  func quiesce(_ deadline: Deadline) async { note("quiesce") }
  func stop() async { note("stop") }
}

private let clerk = PluginEntry(Clerk.self, id: "org.example.clerk", version: "1.0.0") { Clerk.create($0, $1, $2) }

/// A started clerk whose clock stands.
private struct Bench {
  let node = InMemoryNode(programs: ["clerk://minutes", "clerk://end"])
  let timers = TestTimers(isManual: true)
  let host: TestHost
  let clerk: Clerk

  init(_ slot: String, _ configuration: String = "{}") async throws {
    host = try TestHost(
      entry: PluginAPITests.clerk.pointer, configuration: configuration, slot: slot, node: node, timers: timers)
    try await host.start()
    clerk = Clerk.clerks.withLock { $0[slot]! }
  }

  var events: [String] { clerk.events.withLock { $0 } }
}

@Suite struct ServiceFaceTests {
  @Test func itsWorkBeginsWhenTheNodeServesAndEndsWithQuiesce() async throws {
    let bench = try await Bench("life")
    #expect(bench.events.isEmpty)
    try await bench.host.nodeReady()
    await bench.timers.waitUntilPending()
    #expect(bench.events == ["ready true", "works"])
    bench.timers.advance(by: .seconds(59))
    #expect(bench.timers.pendingCount == 1)
    bench.timers.advance(by: .seconds(2))
    await bench.timers.waitUntilPending()
    #expect(bench.events == ["ready true", "works", "minute"])
    try await bench.host.nodeEnding()
    try await bench.host.quiesce()
    #expect(bench.timers.pendingCount == 0)
    try await bench.host.stop()
    bench.host.destroy()
    #expect(
      bench.events == ["ready true", "works", "minute", "ending", "work ends: true", "quiesce", "stop"])
    #expect(bench.node.records.keys.sorted() == ["clerk://end", "clerk://minutes/2"])
    #expect(bench.host.violations.isEmpty, "\(bench.host.violations)")
  }

  @Test func stopEndsTheWorkWithoutQuiesceToo() async throws {
    let bench = try await Bench("stopped")
    try await bench.host.nodeReady()
    await bench.timers.waitUntilPending()
    try await bench.host.stop()
    #expect(bench.events == ["ready true", "works", "work ends: true", "stop"])
    #expect(bench.host.violations.isEmpty, "\(bench.host.violations)")
  }

  @Test func aFailureOfNodeReadyIsTheHostsToTellAndNothingBegins() async throws {
    let bench = try await Bench("fails", #"{"failsReady": true}"#)
    await #expect(throws: Failure.unavailable("the clerk was told to fail")) { try await bench.host.nodeReady() }
    try await bench.host.quiesce()
    #expect(bench.events == ["ready true", "quiesce"])
    try await bench.host.stop()
    #expect(bench.host.violations.isEmpty)
  }

  @Test(.timeLimit(.minutes(1))) func workThatGoesWrongMakesTheSlotUnhealthy() async throws {
    let bench = try await Bench("wrong", #"{"failsWork": true}"#)
    try await bench.host.nodeReady()
    // The last that it does; work that is told to end before says nothing.
    while bench.host.logs.isEmpty { await Task.yield() }
    try await bench.host.quiesce()
    #expect(bench.host.health?.state == .unhealthy && bench.host.health?.message == "the clerk's work went wrong")
    #expect(bench.host.logs.map(\.message) == ["the service has ended by itself"])
    try await bench.host.stop()
  }

  @Test func aSleepEndsWithItsTask() async throws {
    let bench = try await Bench("sleeps")
    let timer = bench.clerk.context.timer
    let sleep = Task { try await timer.sleep(for: .seconds(3600)) }
    await bench.timers.waitUntilPending()
    sleep.cancel()
    await #expect(throws: CancellationError.self) { try await sleep.value }
    #expect(bench.timers.pendingCount == 0)
    // One that is cancelled before it begins, and one whose time has come.
    let early = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await timer.sleep(for: .seconds(3600))
    }
    await #expect(throws: CancellationError.self) { try await early.value }
    let due = Task { try await timer.sleep(untilNs: 0) }
    await bench.timers.waitUntilPending()
    bench.timers.advance(by: .zero)
    try await due.value
    try await bench.host.stop()
    await #expect(throws: CancellationError.self) { try await timer.sleep(for: .seconds(1)) }
  }

  @Test func anInstanceHasSoManyTimersAndNoMore() async throws {
    let bench = try await Bench("hoards")
    let timer = bench.clerk.context.timer
    let sleeps = (0..<TestTimers.instanceTimersMax).map { _ in Task { try await timer.sleep(for: .seconds(1)) } }
    await bench.timers.waitUntilPending(TestTimers.instanceTimersMax)
    await #expect(throws: Failure.self) { try await timer.sleep(for: .seconds(1)) }
    bench.timers.advance(by: .seconds(2))
    for sleep in sleeps { try await sleep.value }
    try await bench.host.stop()
  }

  @Test func timePassesOnARealClock() async throws {
    let host = try TestHost(entry: clerk.pointer, slot: "real")
    try await host.start()
    let timer = Clerk.clerks.withLock { $0["real"]! }.context.timer
    let before = TimerAccess.nowNs
    try await timer.sleep(for: .milliseconds(20))
    #expect(TimerAccess.nowNs - before >= 20_000_000)
    try await host.stop()
  }

  @Test func theNodeIsListedAndReadAtOnce() async throws {
    let bench = try await Bench("reads")
    let node = bench.clerk.context.node
    for number in 0..<5 { bench.node.put("clerk://minutes/\(number)", Array("\(number)".utf8)) }
    let first = try await node.list("clerk://minutes", page: 1, limit: 2)
    #expect(first == RecordList(uris: ["clerk://minutes/0", "clerk://minutes/1"], total: 5))
    let last = try await node.list("clerk://minutes", descending: true, page: 3, limit: 2)
    #expect(last == RecordList(uris: ["clerk://minutes/0"], total: 5))
    let read = try await node.readMulti(["clerk://minutes/3", "clerk://minutes/9", "nonsense"])
    #expect(try read[0].get()?.data == Array("3".utf8))
    #expect(try read[1].get() == nil)
    #expect(throws: Failure.self) { try read[2].get() }
    #expect(try await node.readMulti([]).isEmpty)
    #expect(node.programs() == ["clerk://minutes", "clerk://end"])
    try await bench.host.stop()
    #expect(bench.host.violations.isEmpty, "\(bench.host.violations)")
  }

  @Test func whatIsKnownOfTheNodeComesAsValues() async throws {
    let bench = try await Bench("observes")
    let observe = bench.clerk.context.observe
    bench.clerk.context.health(.degraded, "somebody should look")
    let own = observe.health()
    #expect(own.isReady && own.state == .degraded && own.slots.map(\.message) == ["somebody should look"])
    #expect(observe.operations().isEmpty)
    let counts = OperationCounts(name: "receive", calls: 3, failures: 1, timeNs: 900, buckets: [1, 2, 0])
    let health = NodeHealth(
      isReady: false, state: .unhealthy,
      slots: [
        SlotHealth(
          state: .unhealthy, slot: "primary", kind: "backend", plugin: "org.backplane.sqlite", version: "1.0.0",
          scheme: "sqlite", message: "the disk is full")
      ])
    bench.host.observe(health: health, operations: [counts])
    #expect(observe.health() == health)
    #expect(observe.operations() == [counts])
    #expect(observe.metricsText().hasSuffix("# EOF\n"))
    #expect(OperationCounts.boundNs(0) == 256 && OperationCounts.boundNs(3) == 2048)
    try await bench.host.stop()
  }

  @Test func aCallThatIsGivenUpEnds() async throws {
    let node = StandingNode()
    let host = try TestHost(entry: clerk.pointer, slot: "stands", node: node)
    try await host.start()
    let access = Clerk.clerks.withLock { $0["stands"]! }.context.node
    let read = Task { try await access.read("clerk://minutes/1") }
    await node.isAsked()
    read.cancel()
    await #expect(throws: Failure.self) { try await read.value }
    try await host.stop()
  }
}

/// A node that answers when it is given up.
private final class StandingNode: TestNode {
  private let asked = AsyncStream.makeStream(of: Bool.self)

  func isAsked() async { for await _ in asked.stream { return } }

  func read(_ uri: String, _ call: NodeCall) async throws -> Record? {
    asked.continuation.yield(true)
    try await Task.sleep(for: .seconds(3600))
    return nil
  }
  func receive(_ uri: String, _ data: [UInt8], _ content: Content, _ call: NodeCall) throws -> WriteOutcome {
    throw Failure.unimplemented("it stands")
  }
  func list(_ request: ListRequest, _ call: NodeCall) -> ListPage { ListPage(uris: [], total: 0) }
  func remove(_ uri: String, _ call: NodeCall) -> WriteOutcome? { nil }
  func programs() -> [String] { [] }
  func normalise(_ uri: String) -> String? { uri }
}
