import Foundation
import NodeTesting
import Testing

@Suite struct AnUpgrade {
  static let backends = [
    "{main: {kind: backend, url: \"memory://\"}}",
    "{main: {kind: backend, order: 0, url: \"memory://\"}, disk: {kind: backend, order: 1, url: \"sqlite://\"}}",
  ]

  @Test(.timeLimit(.minutes(5)), arguments: backends)
  func underLoadFailsNoRequestAndLosesNoRecord(_ slots: String) throws {
    let node = try NodeProcess(
      configuration: """
        node: {write_policy: all}
        reload: {watch: false, probation_ms: 0, drain_soft_ms: 3000}
        slots: \(slots)
        """)
    let load = Load(clients: 16, port: node.port)
    var processes: Set<Int32> = [try node.servingPid()]
    for number in 1...4 {
      #expect(load.passes(200))
      let receipt = try node.upgrade()
      #expect(receipt.outcome == "applied", "\(receipt)\n\(node.log)")
      #expect(receipt.trigger == "upgrade")
      #expect(receipt.changes.isEmpty)
      #expect(receipt.generation == receipt.generationBefore + 1 || receipt.generation == receipt.generationBefore + 2)
      #expect(receipt.notes.contains { $0.hasPrefix("slot 'main': moved ") }, "\(receipt)")
      processes.insert(try node.servingPid())
      #expect(processes.count == number + 1)
      // It is in the history that the new process goes on with.
      #expect(try node.receipts().contains { $0.id == receipt.id && $0.trigger == "upgrade" })
    }
    #expect(load.passes(200))
    #expect(load.end())
    let seen = load.seen
    #expect(seen.failures.isEmpty, "\(seen.failures.count): \(seen.failures.prefix(10))\n\(node.log)")
    #expect(seen.closes > 0, "no connection was asked to move to a new process")
    let lost = try Load.missing(seen.acknowledged, port: node.port)
    #expect(lost.isEmpty, "\(lost.count) of \(seen.acknowledged.count) acknowledged writes are lost: \(lost.prefix(5))")
    #expect(try node.metric("backplane_upgrades_total", "outcome=\"applied\"") == 4)
    // All that were before have ended, but for the first, which is the shepherd.
    let last = try node.servingPid()
    #expect(Polling.until { processes.allSatisfy { $0 == last || $0 == node.pid || !isAlive($0) } })
    #expect(node.isRunning)
    #expect(node.stop() == 0)
    #expect(!isAlive(last))
  }

  @Test func countersGoOn() throws {
    let node = try NodeProcess()
    for number in 0..<5 { #expect(try node.put("mutable://open/\(number)", "1").status == 200) }
    func applied() throws -> Double {
      try node.metric("backplane_calls_total", "operation=\"apply\"", "code=\"ok\"") ?? -1
    }
    let before = try applied()
    #expect(before >= 5)
    #expect(try node.upgrade().outcome == "applied")
    // For a moment the old process accepts as well, and knows no calls of the slot that has moved.
    #expect(try Polling.until { try applied() == before })
    #expect(try node.put("mutable://open/more", "1").status == 200)
    #expect(try applied() == before + 1)
    #expect(try node.metric("backplane_reloads_total", "outcome=\"applied\"") == 1)
    let status = try node.ask(["command": "status"])
    #expect((status["upgrades"] as? [String: Int]) == ["applied": 1])
    #expect(node.stop() == 0)
  }

  @Test func requestsUnderWayEndInTheOldProcess() throws {
    let toy = try ToyNode()
    try toy.set("hold")
    let answer = Shared("")
    let client = TestThreads()
    let port = toy.node.port
    client.start {
      let text = (try? HTTPConnection(port: port).get("/api/v1/read/mutable/open/slow/1")).map {
        "\($0.status) \($0.text)"
      }
      answer.with { $0 = text ?? "nothing" }
    }
    #expect(Polling.until { toy.events.contains("1.0.0 holds") })
    let receipt = try toy.node.upgrade()
    #expect(receipt.outcome == "applied", "\(receipt)")
    // The new process serves meanwhile.
    #expect(try toy.node.servingPid() != toy.node.pid)
    #expect(try toy.node.read("mutable/open/version").status == 200)
    #expect(answer.with { $0 }.isEmpty)
    try toy.set("hold", false)
    #expect(client.join(seconds: 20))
    #expect(answer.with { $0 }.hasPrefix("200"), "\(answer.with { $0 })")
    #expect(toy.node.stop() == 0)
  }

  @Test(.timeLimit(.minutes(5))) func leavesNothingBehind() throws {
    let node = try NodeProcess(
      configuration: """
        reload: {watch: false, probation_ms: 0, drain_soft_ms: 500}
        slots: {main: {kind: backend, order: 0, url: "memory://"}, disk: {kind: backend, order: 1, url: "sqlite://"}}
        """)
    func settled() throws -> (threads: Int, descriptors: Int) {
      // Asked once: to ask takes a thread and a descriptor.
      let pid = try node.servingPid()
      var last = node.resources(of: pid)
      var equal = 0
      #expect(
        Polling.until(seconds: 30, everyMs: 50) {
          let now = node.resources(of: pid)
          equal = now == last ? equal + 1 : 0
          last = now
          return equal >= 20
        })
      return last
    }
    for _ in 0..<2 { #expect(try node.upgrade().outcome == "applied") }
    let before = try settled()
    for _ in 0..<10 { #expect(try node.upgrade().outcome == "applied") }
    let after = try settled()
    // Fewer is no leak: a thread of a pool that found nothing to do may have ended meanwhile.
    #expect(
      after.threads <= before.threads && after.descriptors <= before.descriptors,
      "threads and descriptors: \(before) after 2 upgrades, \(after) after 12")
    #expect(node.stop() == 0)
  }

  @Test func anExclusiveSlotStopsInTheOldProcessFirst() throws {
    let lock = NSTemporaryDirectory() + "ledger-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: lock) }
    let ledger = try LedgerNode(Ledger(handover: "stop-then-start"), keys: "lock: \"\(lock)\"")
    let load = Load(clients: 4, port: ledger.node.port)
    for _ in 0..<3 {
      #expect(load.passes(40))
      let receipt = try ledger.node.upgrade()
      #expect(receipt.outcome == "applied", "\(receipt)\n\(ledger.node.log)")
    }
    #expect(load.end())
    let seen = load.seen
    #expect(seen.failures.isEmpty, "\(seen.failures.prefix(5))\n\(ledger.node.log)")
    let lost = try Load.missing(seen.acknowledged, port: ledger.node.port)
    #expect(lost.isEmpty, "\(lost.count) of \(seen.acknowledged.count) are lost")
    #expect(ledger.node.stop() == 0)
  }

  @Test(.timeLimit(.minutes(5))) func comesByItselfAtTheLimitOfImages() throws {
    let node = try NodeProcess(
      configuration: """
        reload: {watch: false, probation_ms: 0, drain_soft_ms: 3000}
        limits: {retained_images_max: 3}
        slots: {main: {kind: backend, url: "memory://"}}
        """)
    let load = Load(clients: 8, port: node.port)
    var processes: Set<Int32> = [try node.servingPid()]
    var generation = 1
    for number in 0..<12 {
      let name = ["schema-permissive", "backend-memory", "transport-http"][number % 3]
      let file = "libbackplane-\(name).so"
      try PluginFile.drop(BuiltProducts.plugin(name), into: node.pluginsDirectory, as: file, stamp: "build \(number)")
      let receipt = try node.reloadDirectly(now: ["\(node.pluginsDirectory)/\(file)"])
      // Also the one that came at the limit: it tells of what the new process did.
      #expect(receipt.outcome == "applied" && receipt.changes.count == 1, "\(receipt)\n\(node.log)")
      #expect(receipt.generation > generation)
      generation = receipt.generation
      processes.insert(try node.servingPid())
      #expect(try node.metric("backplane_images_retained") ?? -1 <= 3)
    }
    #expect(load.end())
    let seen = load.seen
    #expect(seen.failures.isEmpty, "\(seen.failures.count): \(seen.failures.prefix(5))\n\(node.log)")
    let lost = try Load.missing(seen.acknowledged, port: node.port)
    #expect(lost.isEmpty, "\(lost.count) of \(seen.acknowledged.count) are lost")
    #expect(processes.count >= 3, "\(processes)")
    let upgrades = try node.receipts().filter { $0.trigger == "limits.retained_images_max" }
    #expect(upgrades.count == processes.count - 1 && upgrades.allSatisfy { $0.outcome == "applied" })
    #expect(node.stop() == 0)
  }

  @Test func atTheLimitOfImagesIsASetting() throws {
    let node = try NodeProcess(
      configuration: """
        reload: {watch: false, probation_ms: 0, upgrade_at_image_limit: false}
        limits: {retained_images_max: 1}
        slots: {main: {kind: backend, url: "memory://"}}
        """)
    let outcomes = try (0..<3).map { number in
      try PluginFile.drop(
        BuiltProducts.plugin("schema-permissive"), into: node.pluginsDirectory, as: "libbackplane-schema-permissive.so",
        stamp: "build \(number)")
      return try node.reloadDirectly(now: ["*"])
    }
    #expect(outcomes[0].outcome == "applied")
    #expect(outcomes[2].refusals.first?.code == "plugin.too-many-images", "\(outcomes)")
    #expect(try node.servingPid() == node.pid)
  }
}
