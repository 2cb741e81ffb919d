import PluginAPI
import PluginTestHost

/// The rules of service.h: what it is told it completes, whatever the node answers it, and after quiesce it is at rest.
struct ServiceChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let noticeLimit = Duration.seconds(60)
  /// How long work that has been stopped may take to show itself.
  private static let restLimit = Duration.milliseconds(300)

  func run() async {
    let isReady = await bench.recording.check("service.ready") {
      try await bench.serving { host in return try await ready(host) }
    }
    guard isReady else { return }
    await ending()
    await refusals()
    await time()
    await quiesce()
  }

  /// Told that the node serves; a failure is an answer, when it says why.
  private func ready(_ host: TestHost) async throws -> String {
    guard let call = try host.beginNodeReady(deadline: ServiceChecks.noticeLimit) else {
      return "it does not want to know"
    }
    return try await ended(call, "node_ready")
  }

  private func ended(_ call: TestCall<Failure?>, _ name: String) async throws -> String {
    guard let failure = await call.value else { return "completed" }
    try require(
      failure.code != BP_DEADLINE_EXCEEDED || call.isCompleted,
      "\(name) had not been completed after \(ServiceChecks.noticeLimit)")
    try require(!failure.message.isEmpty, "\(name) failed with code \(failure.code) and without a message")
    return "failed: \(failure.message)"
  }

  private func ending() async {
    await bench.recording.check("service.ending") {
      try await bench.serving { host in
        _ = try await ready(host)
        var note = "it does not want to know"
        if let call = try host.beginNodeEnding(deadline: ServiceChecks.noticeLimit) {
          note = try await ended(call, "node_ending")
        }
        try await host.quiesce()
        return note
      }
    }
    await bench.recording.check("service.stop-while-told") {
      // Completed by stop at the latest: what is left open is a breach of manners.
      try await bench.serving { host in
        _ = try host.beginNodeReady(deadline: ServiceChecks.noticeLimit)
        try await host.quiesce()
      }
      return ""
    }
  }

  /// A node that refuses everything is no reason to hang.
  private func refusals() async {
    await bench.recording.check("service.node-refuses") {
      let node = InMemoryNode()
      node.refuse(.unavailable("the suite's node refuses every write"))
      return try await bench.serving(node: node) { host in
        let note = try await ready(host)
        if let call = try host.beginNodeEnding(deadline: ServiceChecks.noticeLimit) {
          _ = try await ended(call, "node_ending")
        }
        return note
      }
    }
  }

  /// Days pass. Its timers stay bounded.
  private func time() async {
    await bench.recording.check("service.time") {
      let timers = TestTimers(isManual: true)
      return try await bench.serving(timers: timers) { host in
        _ = try await ready(host)
        var most = timers.pendingCount
        for _ in 0..<48 {
          timers.advance(by: .seconds(3600))
          // What it does when it is woken is its own; a moment is enough to set another timer.
          try await Task.sleep(for: .milliseconds(2))
          most = max(most, timers.pendingCount)
        }
        try require(most < TestTimers.instanceTimersMax, "it waited for \(most) timers at a time")
        return "at most \(most) timers at a time"
      }
    }
  }

  private func quiesce() async {
    await bench.recording.check("service.quiesce") {
      let timers = TestTimers(isManual: true)
      let node = CountingNode()
      try await bench.serving(node: node, timers: timers) { host in
        _ = try await ready(host)
        try await host.quiesce()
        let before = node.calls
        timers.advance(by: .seconds(86_400))
        try await Task.sleep(for: ServiceChecks.restLimit)
        let after = node.calls
        try require(
          before == after, "after quiesce it made \(after - before) calls to the node; quiesce ends the work")
      }
      return ""
    }
  }

  /// Told that the node serves, for the cycles that count what is left.
  func touch(_ host: TestHost) async throws { _ = try await ready(host) }
}
