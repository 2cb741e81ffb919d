import Foundation
import NodeTesting
import Testing

@Suite struct IsolatedProcesses {
  @Test func noChildOutlivesAKernelThatIsKilled() throws {
    let misfit = try MisfitNode()
    let children = ProcessMark.children(of: misfit.node.pid)
    #expect(children.count == 1, "\(children)")
    misfit.node.signal(SIGKILL)
    #expect(Polling.until { children.allSatisfy { !$0.isAlive } })
  }

  @Test func noChildOutlivesAKernelThatEnds() throws {
    let misfit = try MisfitNode()
    let children = ProcessMark.children(of: misfit.node.pid)
    #expect(children.count == 1)
    #expect(misfit.node.stop() == 0)
    #expect(children.allSatisfy { !$0.isAlive })
  }

  /// Calls in flight fail, others go on, and the next process serves.
  @Test func aKilledChildUnderLoadFailsOnlyWhatItHad() throws {
    let misfit = try MisfitNode(settings: "isolation: {crashes_max: 1000, restart_delay_ms_max: 10}")
    let port = misfit.node.port
    let statuses = Shared<[Int: Int]>([:])
    let isOver = Shared(false)
    let clients = TestThreads()
    for number in 0..<8 {
      clients.start {
        guard let connection = try? HTTPConnection(port: port) else { return statuses.with { $0[-1, default: 0] += 1 } }
        while !isOver.with({ $0 }) {
          let status =
            (try? connection.post("/api/v1/receive", #"{"tx":["mutable://open/load/\#(number)",1]}"#).status) ?? -1
          statuses.with { $0[status, default: 0] += 1 }
          if status == -1 { return }
        }
      }
    }
    for _ in 0..<5 {
      let old = try #require(try? misfit.awaitRestart(of: 0))
      let before = statuses.with { $0[200] ?? 0 }
      #expect(Polling.until { statuses.with { ($0[200] ?? 0) > before + 200 } })
      let mark = ProcessMark(old)
      kill(old, SIGKILL)
      #expect(Polling.until { mark?.isAlive == false })
      _ = try misfit.awaitRestart(of: old)
    }
    isOver.with { $0 = true }
    #expect(clients.join(seconds: 30))
    let all = statuses.with { $0 }
    #expect(Set(all.keys).isSubset(of: [200, 503]), "\(all)")
    #expect((all[200] ?? 0) > 1000, "\(all)")
    #expect(misfit.node.log.contains("cause=SIGKILL"))
  }

  /// A life-cycle function that does not come back costs a process, not an instance that is never called again.
  @Test func whatHangsInItsLifeIsKilledAndNeverWedged() throws {
    let steps = ["quiesce", "stop", "destroy"]
    let misfit = try MisfitNode(Misfit(hang: steps[0]))
    for (index, _) in steps.enumerated() {
      let children = ProcessMark.children(of: misfit.node.pid)
      let next = index + 1 < steps.count ? steps[index + 1] : ""
      try misfit.drop(Misfit(version: "\(index + 2).0.0", hang: next))
      #expect(try misfit.node.reloadDirectly(now: ["*"]).outcome == "applied")
      #expect(Polling.until(seconds: 40) { children.allSatisfy { !$0.isAlive } }, "\(misfit.node.log)")
    }
    #expect(try misfit.node.metric("backplane_instances_wedged_total") == 0)
    #expect(ProcessMark.children(of: misfit.node.pid).count == 1)
  }

  @Test func whatHangsInItsStartIsRefused() throws {
    let misfit = try MisfitNode()
    let old = try misfit.processID()
    try misfit.drop(Misfit(version: "2.0.0", hang: "start"))
    let receipt = try misfit.node.reloadDirectly(now: ["*"])
    #expect(receipt.outcome == "refused", "\(receipt)")
    #expect(receipt.refusals.first?.message.contains("did not come back from start") == true, "\(receipt)")
    #expect(try misfit.processID() == old)
    #expect(Polling.until { ProcessMark.children(of: misfit.node.pid).count == 1 })
    #expect(try misfit.node.metric("backplane_instances_wedged_total") == 0)
  }

  @Test func threadsAndDescriptorsAreLevelAfterAHundredReloads() throws {
    let misfit = try MisfitNode()
    let file = try Misfit(version: "1.0.0").build(in: misfit.folder)
    func reload(_ number: Int) throws {
      try PluginFile.drop(file, into: misfit.node.pluginsDirectory, as: Misfit.file, stamp: "\(number)")
      #expect(try misfit.node.reloadDirectly(now: ["*"]).outcome == "applied")
    }
    func settle() -> Bool {
      Polling.until { ProcessMark.children(of: misfit.node.pid).count == 1 }
    }
    for number in 0..<5 { try reload(number) }
    #expect(settle())
    var before = misfit.node.resources()
    // The last thread of the last reload may still be on its way out.
    #expect(
      Polling.until {
        let now = misfit.node.resources(); defer { before = now }; return now == before
      })
    for number in 5..<105 { try reload(number) }
    #expect(settle())
    #expect(
      Polling.until {
        let now = misfit.node.resources()
        return now.threads <= before.threads && now.descriptors <= before.descriptors
      }, "\(before) became \(misfit.node.resources())")
    // They are not mapped here, so none is kept.
    #expect(try misfit.node.metric("backplane_images_retained") == 0)
  }
}
