import Foundation
import NodeTesting
import Testing

/// What an isolated plugin does to itself, it does to nobody else.
@Suite struct IsolatedCrashes {
  @Test(arguments: [
    ("segv", "SIGSEGV"), ("trap", "SIGILL"), ("abort", "SIGABRT"), ("exit", "it ended with status 3"),
    ("overflow", "SIGSEGV"), ("closeall", "it closed its connection"),
  ])
  func aCrashFailsTheCallAndTheNodeServesOn(way: String, cause: String) throws {
    let misfit = try MisfitNode()
    let old = try misfit.processID()
    let answer = try misfit.node.read("mutable/open/\(way)")
    #expect(answer.status == 503, "\(answer.status) \(answer.text)")
    #expect(answer.headers["retry-after"] != nil)
    _ = try misfit.awaitRestart(of: old)
    #expect(try misfit.node.put("mutable://open/after", "1").status == 200)
    #expect(try misfit.node.read("mutable/open/after").status == 200)
    let line = misfit.node.log.split(separator: "\n").first { $0.contains("the process of an isolated plugin ended") }
    #expect(line?.contains(cause) == true, "\(misfit.node.log)")
    #expect(line?.contains("slot=misfit") == true && line?.contains("plugin=org.example.misfit") == true)
    if cause.hasPrefix("SIG") {
      // Innermost first: the misfit's own code, or what it called.
      #expect(line?.contains("misfit.so+0x") == true, "\(misfit.node.log)")
    }
    #expect(try misfit.node.metric("backplane_isolation_restarts_total", "misfit") == 1)
    #expect(try misfit.node.metric("backplane_isolation_crashes_total", "misfit") == 1)
    #expect(misfit.node.isRunning)
    #expect(misfit.node.stop() == 0)
  }

  @Test func aCrashNamesTheFunctionThatTheImageExports() throws {
    let misfit = try MisfitNode()
    let old = try misfit.processID()
    #expect(try misfit.node.read("mutable/open/abort").status == 503)
    _ = try misfit.awaitRestart(of: old)
    #expect(misfit.node.log.contains("abort"), "\(misfit.node.log)")
  }

  /// The machine's memory is not the plugin's to take.
  @Test func aLeakEndsAtItsLimit() throws {
    let misfit = try MisfitNode(
      keys: "isolation: process\n    limits: {memory_size_bytes_max: 268435456}")
    let old = try misfit.processID()
    #expect(try misfit.node.read("mutable/open/leak").status == 503)
    _ = try misfit.awaitRestart(of: old)
    #expect(try misfit.node.put("mutable://open/after", "1").status == 200)
  }

  @Test func processorTimeEndsAtItsLimit() throws {
    let misfit = try MisfitNode(keys: "isolation: process\n    limits: {cpu_seconds_max: 1}")
    let old = try misfit.processID()
    #expect(try misfit.node.read("mutable/open/spin").status == 503)
    _ = try misfit.awaitRestart(of: old)
    #expect(misfit.node.log.contains("cause=SIGXCPU"), "\(misfit.node.log)")
  }

  @Test func tooManyDescriptorsAreThePluginsOwnTrouble() throws {
    let misfit = try MisfitNode(keys: "isolation: process\n    limits: {descriptors_max: 64}")
    let id = try misfit.processID()
    let limits = try String(contentsOfFile: "/proc/\(id)/limits", encoding: .utf8)
    let line = limits.split(separator: "\n").first { $0.hasPrefix("Max open files") }
    #expect(line?.split(separator: " ").dropFirst(3).first == "64", "\(limits)")
  }

  /// A thread that spins or waits for itself: the call is answered at its deadline, and the process ended when it has
  /// still not completed it some time later.
  @Test(arguments: ["spin", "deadlock", "never"])
  func aCallThatNeverEndsIsEndedWithItsProcess(way: String) throws {
    let misfit = try MisfitNode(
      settings: "limits: {request_timeout_ms: 300}\nisolation: {cancel_grace_ms: 300}")
    let old = try misfit.processID()
    let answer = try misfit.node.read("mutable/open/\(way)")
    #expect(answer.status == 503 || answer.status == 504, "\(answer.status) \(answer.text)")
    _ = try misfit.awaitRestart(of: old)
    #expect(misfit.node.log.contains("isolation.cancel_grace_ms"), "\(misfit.node.log)")
    #expect(try misfit.node.put("mutable://open/after", "1").status == 200)
  }

  @Test func completingTwiceOrForOthersIsCountedAndIgnored() throws {
    let misfit = try MisfitNode()
    let old = try misfit.processID()
    let before = try misfit.node.metric("backplane_completions_ignored_total") ?? 0
    #expect(try misfit.node.read("mutable/open/twice").text.contains("1"))
    #expect(try misfit.node.read("mutable/open/foreign").status == 200)
    #expect(try misfit.node.put("mutable://open/after", "1").status == 200)
    #expect(try misfit.processID() == old)
    // The child's host knows its own tokens, so hardly any of these reach the kernel.
    #expect(try misfit.node.metric("backplane_completions_ignored_total") ?? 0 >= before)
  }

  @Test func whatKeepsCrashingRestsBehindABreaker() throws {
    let misfit = try MisfitNode(
      settings: "isolation: {crashes_max: 2, breaker_open_ms: 1500, restart_delay_ms_max: 50}")
    for _ in 0..<3 {
      let old = try misfit.processID()
      #expect(try misfit.node.read("mutable/open/abort").status == 503)
      guard misfit.node.log.components(separatedBy: "breaker open").count == 1 else { break }
      _ = try? misfit.awaitRestart(of: old)
    }
    #expect(Polling.until { misfit.node.log.contains("breaker open for 1500 ms") }, "\(misfit.node.log)")
    let refused = try misfit.node.read("mutable/open/pid")
    #expect(refused.status == 503)
    #expect(refused.headers["retry-after"] != nil)
    let status = try misfit.node.ask(["command": "status"])
    #expect("\(status)".contains("keeps crashing"), "\(status)")
    #expect(try misfit.node.metric("backplane_isolation_breaker_open", "misfit") == 1)
    // Half open: one more is tried, and it stays.
    #expect(Polling.until { (try? misfit.processID()) != nil }, "\(misfit.node.log)")
    #expect(try misfit.node.metric("backplane_isolation_breaker_open", "misfit") == 0)
    #expect(try misfit.node.health().text.contains("healthy"))
  }
}
