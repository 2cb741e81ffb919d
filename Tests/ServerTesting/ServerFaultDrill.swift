import PluginAPI
import PluginTestHost
import Synchronization

/// One fault that a backend with a server went through, and what came of it.
public struct FaultOutcome: Sendable {
  public var fault: FaultProxy.Fault
  /// While the fault held, and just after it.
  public var acknowledgedCount = 0
  public var failedCount = 0
  /// From the end of the fault to the first acknowledged write.
  public var recovery = Duration.zero
  /// What was wrong, one sentence each.
  public var problems: [String] = []
}

/// A backend that talks to its server through a proxy, with writers and readers at work, put through what networks do.
///
/// Under every fault calls end by their deadlines, and those that fail say that they may be tried again; when it is over
/// writes succeed again; and whatever was acknowledged, at any time, is there.
public final class ServerFaultDrill: Sendable {
  public static let faults: [FaultProxy.Fault] = [
    .refuses, .blackHoles, .delays(milliseconds: 100), .cutsAfter(bytes: 40, .toServer),
    .cutsAfter(bytes: 30, .toClient), .resets,
  ]

  private static let root = "mutable://conformance/drill"
  private static let writersCount = 4
  /// What a call may take while a fault holds, and how much later its completion may still come on a busy machine.
  private static let deadline = Duration.milliseconds(800)
  private static let grace = Duration.seconds(20)
  private static let recoveryLimit = Duration.seconds(60)
  /// How long a fault holds: longer than a deadline, so that calls meet theirs in it.
  private static let faultTime = Duration.milliseconds(1_200)

  private let proxy: FaultProxy
  private let host: TestHost
  private let log = Mutex(Log())

  private struct Log {
    var acknowledged: [String] = []
    var failed = 0
    var problems: [String] = []
    var isOver = false
  }

  /// - `host`: a started instance whose configuration leads to `proxy`.
  public init(_ host: TestHost, through proxy: FaultProxy) {
    self.host = host
    self.proxy = proxy
  }

  /// Goes through one fault.
  public func run(_ fault: FaultProxy.Fault) async throws -> FaultOutcome {
    log.withLock { $0 = Log() }
    let name = "\(fault)".filter { $0.isLetter || $0.isNumber }
    let before = "\(ServerFaultDrill.root)/\(name)/before"
    try await host.apply(.put(before, Array("\"before\"".utf8)), deadline: .seconds(60))
    var outcome = FaultOutcome(fault: fault)
    await withTaskGroup(of: Void.self) { group in
      for writer in 0..<ServerFaultDrill.writersCount { group.addTask { [self] in await write(name, writer) } }
      group.addTask { [self] in await readOnAndOn(before) }
      // Writes are under way when it begins.
      try? await Task.sleep(for: .milliseconds(100))
      proxy.set(fault)
      // Its duration is what is tested: there is no event to wait for.
      try? await Task.sleep(for: ServerFaultDrill.faultTime)
      proxy.set(.passes)
      outcome.recovery = await recovered(name)
      log.withLock { $0.isOver = true }
    }
    await lookAfterwards(before)
    let seen = log.withLock { $0 }
    outcome.acknowledgedCount = seen.acknowledged.count
    outcome.failedCount = seen.failed
    outcome.problems = seen.problems
    return outcome
  }

  private func complain(_ sentence: String) {
    log.withLock { if $0.problems.count < 10 { $0.problems.append(sentence) } }
  }

  private var isOver: Bool { log.withLock { $0.isOver } }

  // MARK: Under the fault

  private func write(_ name: String, _ writer: Int) async {
    var number = 0
    while !isOver {
      number += 1
      let uri = "\(ServerFaultDrill.root)/\(name)/\(writer)/\(number)"
      let op = Op.put(uri, Array("\"\(uri)\"".utf8))
      do {
        let call = try host.beginApply([op], version: UInt64(number), deadline: ServerFaultDrill.deadline)
        let result = await call.value
        await complete("a write") { call.isCompleted }
        switch result {
        case .success: log.withLock { $0.acknowledged.append(uri) }
        case .failure(let error): judge(error, "a write")
        }
      } catch { complain("a write could not be submitted: \(error)") }
    }
  }

  private func readOnAndOn(_ uri: String) async {
    while !isOver {
      do {
        let record = try await host.read(uri, deadline: ServerFaultDrill.deadline)
        if record == nil { complain("a read found no record at \(uri), where there is one") }
      } catch { judge(error, "a read") }
    }
  }

  private func judge(_ error: any Error, _ what: String) {
    log.withLock { $0.failed += 1 }
    guard let failure = error as? Failure else { return complain("\(what) failed with \(error)") }
    if !failure.isRetryable {
      complain(
        "\(what) failed with code \(failure.code) and does not say that it may be tried again: \(failure.message)")
    }
    if failure.message.isEmpty { complain("\(what) failed with code \(failure.code) and no sentence") }
  }

  /// The host has answered its caller at the deadline; the plugin's completion has to come soon after.
  private func complete(_ what: String, _ isCompleted: () -> Bool) async {
    let end = ContinuousClock.now + ServerFaultDrill.grace
    while !isCompleted() {
      guard ContinuousClock.now < end else {
        return complain("\(what) was not completed \(ServerFaultDrill.grace) after its deadline")
      }
      try? await Task.sleep(for: .milliseconds(5))
    }
  }

  // MARK: Afterwards

  private func recovered(_ name: String) async -> Duration {
    let start = ContinuousClock.now
    var number = 0
    while ContinuousClock.now - start < ServerFaultDrill.recoveryLimit {
      number += 1
      let op = Op.put("\(ServerFaultDrill.root)/\(name)/recovered/\(number)", Array("1".utf8))
      if (try? await host.apply(op, deadline: ServerFaultDrill.deadline)) != nil { return ContinuousClock.now - start }
      try? await Task.sleep(for: .milliseconds(10))
    }
    complain("no write succeeded \(ServerFaultDrill.recoveryLimit) after the fault")
    return ServerFaultDrill.recoveryLimit
  }

  private func lookAfterwards(_ before: String) async {
    for uri in log.withLock({ $0.acknowledged }) + [before] {
      let data = Array("\"\(uri == before ? "before" : uri)\"".utf8)
      do {
        let record = try await host.read(uri, deadline: .seconds(60))
        if record?.data != data {
          complain("\(uri) was acknowledged, and is \(record == nil ? "not there" : "another")")
        }
      } catch { complain("a read after the fault failed: \(error)") }
    }
    await complete("a call") { host.openCallsCount == 0 }
    for violation in host.violations { complain("\(violation)") }
  }
}
