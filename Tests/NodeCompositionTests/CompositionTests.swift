import Foundation
import NodeTesting
import ServerTesting
import Testing

/// Real backends behind one node: they go away, come back, and have the same in the end.
@Suite(.serialized) struct CompositionTests {
  /// Whether a node answers with what was acknowledged.
  private func expectRecords(_ writers: Writers, _ node: NodeProcess, _ who: String) throws {
    let client = try HTTPConnection(port: node.port)
    var wrong: [String] = []
    for (name, record) in writers.records where record.open == nil {
      let answer = try client.get("/api/v1/read/\(name)")
      let isRight =
        if let value = record.value {
          answer.status == 200 && answer.text.hasSuffix("\"data\":\(value)}")
        } else {
          answer.status == 404
        }
      if !isRight { wrong.append("\(name): \(record.value ?? "absent"), not \(answer.status) \(answer.text)") }
    }
    #expect(wrong.isEmpty, "\(who): \(wrong.count) of \(writers.records.count) wrong: \(wrong.prefix(5))")
  }

  @Test(.timeLimit(.minutes(10))) func underAnyEveryBackendHasEverythingInTheEnd() throws {
    let mixture = try Mixture(["memory", "sqlite", "files", "postgresql", "remote"], policy: "any")
    let writers = Writers(6, port: mixture.node.port)
    #expect(writers.waitForMore(200))
    mixture.postgreSQL.stop(.immediate)
    #expect(writers.waitForMore(200))
    mixture.stopRemote()
    #expect(writers.waitForMore(200))
    #expect(try mixture.isBehind("postgresql") && mixture.isBehind("remote"))
    #expect(try !mixture.isBehind("sqlite") && !mixture.isBehind("files") && !mixture.isBehind("memory"))
    let units = try #require(try mixture.node.metric("backplane_repair_journal_units", "slot=\"postgresql\""))
    #expect(units >= 200)
    try mixture.postgreSQL.start()
    try mixture.startRemote()
    // Repaired while clients go on.
    #expect(writers.waitForMore(200))
    #expect(writers.end())
    #expect(writers.troubles.isEmpty, "\(writers.troubles.prefix(3))")
    #expect(writers.refused.isEmpty, "\(writers.refused)")
    #expect(try mixture.isLevel())
    #expect(try mixture.node.metric("backplane_repair_replayed_total", "slot=\"postgresql\"") ?? 0 >= units)
    #expect(mixture.node.log.contains("has got everything that it missed"))
    // The memory backend is first in order: it answers.
    try expectRecords(writers, mixture.node, "memory")
    #expect(mixture.node.stop() == 0)
    for slot in ["sqlite", "files", "postgresql", "remote"] {
      try mixture.alone(slot) { try expectRecords(writers, $0, slot) }
    }
  }

  /// What is in the journal outlives a crash of the node.
  @Test(.timeLimit(.minutes(5))) func aCrashForgetsNoMiss() throws {
    let mixture = try Mixture(["sqlite", "postgresql"], policy: "any")
    mixture.postgreSQL.stop()
    for number in 0..<100 { #expect(try mixture.node.put("mutable://open/\(number)", "\(number)").status == 200) }
    #expect(try mixture.node.metric("backplane_repair_journal_units", "slot=\"postgresql\"") == 100)
    let status = try mixture.node.command(["status"]).output
    #expect(status.contains("100 are still to be repaired"), "\(status)")
    try mixture.crashAndStart { try mixture.postgreSQL.start() }
    #expect(try mixture.isLevel())
    #expect(try mixture.node.metric("backplane_repair_replayed_total", "slot=\"postgresql\"") == 100)
    #expect(mixture.node.stop() == 0)
    try mixture.alone("postgresql") { reader in
      for number in 0..<100 {
        let answer = try reader.read("mutable/open/\(number)")
        #expect(answer.text.hasSuffix("\"data\":\(number)}"))
      }
    }
  }

  @Test(.timeLimit(.minutes(5))) func aQuorumIsMoreThanHalf() throws {
    let mixture = try Mixture(["files", "postgresql", "remote"], policy: "quorum")
    let whole = try mixture.node.put("mutable://open/a", "1")
    #expect(whole.status == 200)
    mixture.postgreSQL.stop()
    #expect(try mixture.node.put("mutable://open/a", "2").status == 200)
    mixture.stopRemote()
    let refused = try mixture.node.put("mutable://open/b", "3")
    #expect(refused.status == 503, "\(refused.text)")
    try mixture.postgreSQL.start()
    try mixture.startRemote()
    #expect(try mixture.isLevel())
    #expect(try mixture.node.put("mutable://open/a", "4").status == 200)
    #expect(mixture.node.stop() == 0)
    for slot in mixture.slots {
      try mixture.alone(slot) { reader in
        let answer = try reader.read("mutable/open/a")
        #expect(answer.text.hasSuffix("\"data\":4}"), "\(slot)")
      }
    }
  }
}
