import Foundation
import NodeTesting
import Testing

/// What whoever started the node sees of it.
@Suite struct TheProcesses {
  private let yaml = """
    reload: {watch: false, probation_ms: 0, drain_soft_ms: 500}
    slots: {main: {kind: backend, url: "memory://"}}
    """

  @Test func systemdIsToldInOrder() throws {
    let folder = try TemporaryFolder()
    let manager = try NotifySocket(in: folder)
    let node = try NodeProcess(
      folder: folder, environment: ["NOTIFY_SOCKET": manager.path], configuration: yaml)
    #expect(manager.next()["READY"] == "1")
    let receipt = try node.upgrade()
    #expect(receipt.outcome == "applied", "\(receipt)")
    let reloading = manager.next()
    #expect(reloading["RELOADING"] == "1" && reloading["MONOTONIC_USEC"] != nil)
    let main = manager.next()
    let pid = try node.servingPid()
    #expect(main["MAINPID"] == "\(pid)", "\(main)")
    let ready = manager.next()
    #expect(ready["READY"] == "1" && ready["STATUS"]?.contains("taken over") == true, "\(ready)")
    // The old process ends by itself: systemd goes by the new one.
    #expect(node.wait() == 0)
    #expect(try node.read("mutable/open/a").status == 404)
    kill(pid, SIGTERM)
    while true {
      let next = manager.next()
      if next["READY"] == "1" || next["RELOADING"] == "1" { continue }
      #expect(next["STOPPING"] == "1", "\(next)")
      break
    }
    #expect(Polling.until { !isAlive(pid) })
  }

  @Test func theShepherdHandsSignalsOnAndEndsAsTheNodeDoes() throws {
    let node = try NodeProcess(configuration: yaml)
    for _ in 0..<2 { #expect(try node.upgrade().outcome == "applied") }
    let pid = try node.servingPid()
    #expect(pid != node.pid)
    #expect(Polling.until { ProcessFile.read("/proc/\(node.pid)/cmdline").contains("--shepherd") })
    node.signal(SIGHUP)
    #expect(try Polling.until { try node.receipts().contains { $0.trigger.contains("SIGHUP") } })
    node.signal(SIGUSR1)
    #expect(Polling.until { node.log.contains("notice status ") })
    #expect(node.stop() == 0)
    #expect(!isAlive(pid))
  }

  @Test func theShepherdDiesOfWhatTheNodeDiesOf() throws {
    let node = try NodeProcess(configuration: yaml)
    #expect(try node.upgrade().outcome == "applied")
    let pid = try node.servingPid()
    #expect(Polling.until { ProcessFile.read("/proc/\(node.pid)/cmdline").contains("--shepherd") })
    node.expectsEnd()
    kill(pid, SIGKILL)
    #expect(node.wait() == SIGKILL)
    #expect(node.wasEndedBySignal)
  }

  @Test func aNodeWithoutItsShepherdEnds() throws {
    let node = try NodeProcess(configuration: yaml)
    #expect(try node.upgrade().outcome == "applied")
    let pid = try node.servingPid()
    #expect(Polling.until { ProcessFile.read("/proc/\(node.pid)/cmdline").contains("--shepherd") })
    node.signal(SIGKILL)
    _ = node.wait()
    #expect(Polling.until { !isAlive(pid) })
  }

  @Test func theNewProcessServesOnWhenTheOldIsKilled() throws {
    let toy = try ToyNode()
    try toy.set("hold")
    let client = TestThreads()
    let port = toy.node.port
    client.start { _ = try? HTTPConnection(port: port).get("/api/v1/read/mutable/open/slow/1") }
    #expect(Polling.until { toy.events.contains("1.0.0 holds") })
    #expect(try toy.node.upgrade().outcome == "applied")
    let pid = try toy.node.servingPid()
    defer { kill(pid, SIGKILL) }
    // It still waits for the request.
    #expect(toy.node.isRunning && toy.node.pid != pid)
    toy.node.signal(SIGKILL)
    _ = toy.node.wait()
    #expect(client.join(seconds: 20))
    for number in 0..<20 {
      #expect(try toy.node.put("mutable://open/after/\(number)", "1").status == 200)
    }
    #expect(try toy.node.servingPid() == pid)
    #expect(try toy.node.reloadDirectly(now: ["*"]).outcome == "unchanged")
  }

  @Test func anEndThatIsAskedForDuringADrainIsForTheNewProcess() throws {
    let toy = try ToyNode()
    try toy.set("hold")
    let client = TestThreads()
    let port = toy.node.port
    client.start { _ = try? HTTPConnection(port: port).get("/api/v1/read/mutable/open/slow/1") }
    #expect(Polling.until { toy.events.contains("1.0.0 holds") })
    #expect(try toy.node.upgrade().outcome == "applied")
    let pid = try toy.node.servingPid()
    toy.node.signal(SIGTERM)
    try toy.set("hold", false)
    #expect(toy.node.wait() == 0)
    #expect(client.join(seconds: 20))
    #expect(!isAlive(pid))
  }
}
