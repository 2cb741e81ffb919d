import Foundation
import NodeTesting
import Testing

/// What slots keep in memory moves to their successors.
@Suite struct Handovers {
  /// The memory backend is replaced and reconfigured under writers and readers; every acknowledged record is there.
  @Test func theMemoryBackendLosesNothing() throws {
    func yaml(_ recordsMax: Int) -> String {
      """
      reload: {watch: false}
      slots:
        main: {kind: backend, url: "memory://", records_max: \(recordsMax)}
      """
    }
    let node = try NodeProcess(configuration: yaml(1_000_000))
    let isOver = Shared(false)
    let acknowledged = (0..<8).map { _ in Shared<[Int]>([]) }
    let failures = Shared<[String]>([])
    let clients = TestThreads()
    let port = node.port
    for (client, done) in acknowledged.enumerated() {
      clients.start {
        do {
          let connection = try HTTPConnection(port: port)
          var number = 0
          while !isOver.with({ $0 }) {
            let path = "open/\(client)/\(number % 500)"
            let written = try connection.post("/api/v1/receive", #"{"tx":["mutable://\#(path)",\#(number)]}"#)
            let read = try connection.get("/api/v1/read/mutable/\(path)")
            if written.status != 200 || read.status != 200 || !read.text.hasSuffix("\"data\":\(number)}") {
              failures.with { $0.append("\(path) \(number): \(written.status), \(read.status) \(read.text)") }
            }
            if number % 500 == 7, number > 7 {
              let removed = try connection.request("DELETE", "/api/v1/delete/mutable/\(path)")
              let gone = try connection.get("/api/v1/read/mutable/\(path)")
              if removed.status != 200 || gone.status != 404 {
                failures.with { $0.append("\(path) deleted: \(removed.status), \(gone.status) \(gone.text)") }
              }
              done.with { $0[number % 500] = -1 }
            } else {
              done.with { number < 500 ? $0.append(number) : ($0[number % 500] = number) }
            }
            number += 1
          }
        } catch { failures.with { $0.append("\(error)") } }
      }
    }
    for number in 0..<10 {
      if number % 2 == 0 {
        try PluginFile.drop(
          BuiltProducts.plugin("backend-memory"), into: node.pluginsDirectory, as: "libbackplane-backend-memory.so",
          stamp: "build \(number)")
      } else {
        try node.folder.write(yaml(1_000_000 + number), to: "backplane.yaml")
      }
      let receipt = try node.reloadDirectly(now: ["*"])
      #expect(receipt.outcome == "applied", "\(receipt)")
      #expect(receipt.states["main"]?.hasPrefix("moved ") == true, "\(receipt)")
    }
    isOver.with { $0 = true }
    #expect(clients.join(seconds: 30))
    #expect(failures.with { $0 } == [])
    let reader = try HTTPConnection(port: port)
    var count = 0
    for (client, done) in acknowledged.enumerated() {
      for (place, number) in done.with({ $0 }).enumerated() {
        let answer = try reader.get("/api/v1/read/mutable/open/\(client)/\(place)")
        let isRight = number < 0 ? answer.status == 404 : answer.text.hasSuffix("\"data\":\(number)}")
        #expect(isRight, "\(client)/\(place) is \(answer.text), and \(number) was written last")
        count += 1
      }
    }
    #expect(count >= 8)
    #expect(node.stop() == 0)
  }

  @Test func whatDoesNotFitTheSuccessorRefusesTheChange() throws {
    let node = try NodeProcess(configuration: "slots: {main: {kind: backend, url: \"memory://\"}}")
    for number in 0..<20 { try node.put("mutable://open/\(number)", "\(number)") }
    try node.folder.write("slots: {main: {kind: backend, url: \"memory://\", records_max: 10}}", to: "backplane.yaml")
    let receipt = try node.reloadDirectly()
    #expect(receipt.outcome == "refused")
    #expect(receipt.refusals.first?.code == "slot.state-refused", "\(receipt)")
    #expect(receipt.refusals.first?.message.contains("records_max") == true, "\(receipt)")
    // The old one serves on, and hands over later.
    #expect(try node.put("mutable://open/more", "1").status == 200)
    try node.folder.write("slots: {main: {kind: backend, url: \"memory://\", records_max: 100}}", to: "backplane.yaml")
    #expect(try node.reloadDirectly().states["main"]?.hasPrefix("moved ") == true)
    #expect(try node.read("mutable/open/19").status == 200)
    #expect(try node.read("mutable/open/more").status == 200)
  }

  @Test func aFormatThatIsNotReadMeansAColdStartAndIsSaid() throws {
    let ledger = try LedgerNode()
    try ledger.node.put("mutable://open/kept", "1")
    try ledger.drop(Ledger(version: "2.0.0", format: 2, oldestFormat: 2))
    let receipt = try ledger.reload()
    #expect(receipt.outcome == "applied")
    #expect(receipt.states["ledger"]?.hasPrefix("cold: ") == true, "\(receipt)")
    #expect(ledger.node.log.contains("began without its predecessor's state"))
    #expect(try ledger.node.read("mutable/open/kept").status == 404)
  }

  @Test(arguments: ["snapshot", "rest"]) func anExportThatFailsLeavesTheOldOneInPlace(_ phase: String) throws {
    let ledger = try LedgerNode(keys: "fail_export: \(phase)")
    try ledger.node.put("mutable://open/kept", "1")
    try ledger.drop(Ledger(version: "2.0.0"))
    let receipt = try ledger.reload()
    #expect(receipt.outcome == "refused")
    #expect(receipt.refusals.first?.message.contains("told to fail its export") == true, "\(receipt)")
    #expect(try ledger.servingVersion() == "1.0.0")
    #expect(try ledger.node.put("mutable://open/kept", "2").status == 200)
    #expect(try ledger.reload(losesState: true).states["ledger"] == "cold: asked for (--lose-state)")
    #expect(try ledger.servingVersion() == "2.0.0")
  }

  @Test func whatTakesTooLongIsGivenUpAndParkedWritesGoOn() throws {
    let ledger = try LedgerNode(
      keys: "hold_rest_ms: 1500", reload: "probation_ms: 0, handover_timeout_ms: 300")
    try ledger.drop(Ledger(version: "2.0.0"))
    let answers = Shared<[Int]>([])
    let isOver = Shared(false)
    let clients = TestThreads()
    let port = ledger.node.port
    for client in 0..<4 {
      clients.start {
        guard let connection = try? HTTPConnection(port: port) else { return }
        while !isOver.with({ $0 }) {
          let answer = try? connection.post("/api/v1/receive", #"{"tx":["mutable://open/\#(client)",1]}"#)
          answers.with { $0.append(answer?.status ?? 0) }
        }
      }
    }
    let receipt = try ledger.reload()
    #expect(receipt.outcome == "refused")
    #expect(receipt.refusals.first?.message.contains("reload.handover_timeout_ms") == true, "\(receipt)")
    #expect(try ledger.node.put("mutable://open/after", "1").status == 200)
    isOver.with { $0 = true }
    #expect(clients.join(seconds: 20))
    #expect(answers.with { $0 }.allSatisfy { $0 == 200 } && !answers.with { $0 }.isEmpty)
    #expect(try ledger.servingVersion() == "1.0.0")
  }
}

/// Slots that cannot be beside their successor.
@Suite struct Exchanges {
  private func lock() throws -> (TemporaryFolder, String) {
    let folder = try TemporaryFolder()
    return (folder, "lock: \"\(folder.path)/lock\"")
  }

  @Test func requestsWaitWhileAnExclusiveSlotIsExchanged() throws {
    let (folder, lock) = try lock()
    let ledger = try LedgerNode(Ledger(handover: "stop-then-start"), keys: lock)
    let isOver = Shared(false)
    let failures = Shared<[String]>([])
    let count = Shared(0)
    let clients = TestThreads()
    let port = ledger.node.port
    for client in 0..<6 {
      clients.start {
        do {
          let connection = try HTTPConnection(port: port)
          var number = 0
          while !isOver.with({ $0 }) {
            number += 1
            let written = try connection.post(
              "/api/v1/receive", #"{"tx":["mutable://open/\#(client)/\#(number % 20)",\#(number)]}"#)
            let read = try connection.get("/api/v1/read/mutable/open/\(client)/\(number % 20)")
            if written.status != 200 || !read.text.hasSuffix("\"data\":\(number)}") {
              failures.with { $0.append("\(number): \(written.status) \(written.text), \(read.text)") }
            }
            count.with { $0 += 1 }
          }
        } catch { failures.with { $0.append("\(error)") } }
      }
    }
    for number in 2..<8 {
      try ledger.drop(Ledger(version: "\(number).0.0", handover: "stop-then-start"))
      let receipt = try ledger.reload()
      #expect(receipt.outcome == "applied", "\(receipt)")
      #expect(receipt.states["ledger"]?.hasPrefix("moved ") == true, "\(receipt)")
      #expect(try ledger.servingVersion() == "\(number).0.0")
      let seen = count.with { $0 }
      #expect(Polling.until { count.with { $0 } > seen + 20 })
    }
    isOver.with { $0 = true }
    #expect(clients.join(seconds: 20))
    #expect(failures.with { $0 } == [])
    withExtendedLifetime(folder) {}
  }

  @Test func whatServedComesBackWhenItsSuccessorDoesNotStart() throws {
    let (folder, lock) = try lock()
    let ledger = try LedgerNode(Ledger(handover: "stop-then-start"), keys: lock)
    try ledger.node.put("mutable://open/kept", "1")
    try ledger.configure(keys: lock + ", fail_start: true")
    let receipt = try ledger.reload()
    #expect(receipt.outcome == "refused")
    #expect(receipt.refusals.first?.message.contains("the ledger was told to fail") == true, "\(receipt)")
    #expect(receipt.notes.contains { $0.contains("started again") }, "\(receipt)")
    #expect(try ledger.node.read("mutable/open/kept").status == 200)
    #expect(try ledger.node.put("mutable://open/more", "1").status == 200)
    try ledger.configure(keys: lock)
    #expect(try ledger.reload().refusals.isEmpty)
    withExtendedLifetime(folder) {}
  }

  /// Requests that hold the old one to the end of their patience: the change is refused, and says where to look.
  @Test func anExclusiveSlotThatIsHeldIsNotExchanged() throws {
    let (folder, lock) = try lock()
    let ledger = try LedgerNode(
      Ledger(handover: "stop-then-start"), keys: lock + ", delay_ms: 4000",
      reload: "probation_ms: 0, handover_timeout_ms: 300, park_timeout_ms: 600")
    let port = ledger.node.port
    let held = Shared<Int>(0)
    let clients = TestThreads()
    clients.start {
      let answer = try? HTTPConnection(port: port).get("/api/v1/read/mutable/open/slow")
      held.with { $0 = answer?.status ?? -1 }
    }
    #expect(try Polling.until { try ledger.node.metric("backplane_calls_in_flight", "slot=\"ledger\"") == 1 })
    try ledger.drop(Ledger(version: "2.0.0", handover: "stop-then-start"))
    // What comes while the door is shut waits, and is told when to try again.
    let answers = Shared<[HTTPConnection.Answer]>([])
    let isOver = Shared(false)
    clients.start {
      guard let connection = try? HTTPConnection(port: port) else { return }
      while !isOver.with({ $0 }) {
        guard let answer = try? connection.post("/api/v1/receive", #"{"tx":["mutable://open/x",1]}"#) else { return }
        answers.with { $0.append(answer) }
      }
    }
    #expect(Polling.until { !answers.with { $0 }.isEmpty })
    let receipt = try ledger.reload()
    #expect(receipt.outcome == "refused")
    #expect(receipt.refusals.first?.code == "slot.held", "\(receipt)")
    isOver.with { $0 = true }
    #expect(clients.join(seconds: 20))
    let refused = answers.with { $0 }.filter { $0.status != 200 }
    #expect(
      !refused.isEmpty && refused.allSatisfy { $0.status == 503 && $0.headers["retry-after"] == "1" }, "\(refused)")
    #expect(held.with { $0 } == 404)
    #expect(try ledger.servingVersion() == "1.0.0")
    withExtendedLifetime(folder) {}
  }
}
