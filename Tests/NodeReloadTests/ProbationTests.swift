import Foundation
import NodeTesting
import Testing

@Suite struct Probations {
  private static let window = "probation_ms: 60000"

  private func read(_ node: NodeProcess, _ count: Int) throws {
    let connection = try HTTPConnection(port: node.port)
    for _ in 0..<count { _ = try connection.get("/api/v1/read/mutable/open/a") }
  }

  private func rolledBack(_ node: NodeProcess) throws -> TestReceipt? {
    var found: TestReceipt?
    _ = try Polling.until(seconds: 20) {
      found = try node.receipts(limit: 1).first
      return found?.outcome == "rolled back"
    }
    return found
  }

  @Test(arguments: [
    ("fail_each: 3", "the share of failed calls"), ("delay_ms: 30", "the p99 of read"),
  ]) func whatRegressesGoesBack(_ keys: String, _ measure: String) throws {
    let ledger = try LedgerNode(reload: Probations.window)
    try ledger.node.put("mutable://open/a", "1")
    try read(ledger.node, 300)
    try ledger.configure(keys: keys, reload: Probations.window)
    #expect(try ledger.reload().outcome == "applied")
    try ledger.node.put("mutable://open/b", "\"written since\"")
    try read(ledger.node, 250)
    let receipt = try rolledBack(ledger.node)
    #expect(receipt?.outcome == "rolled back")
    #expect(receipt?.trigger == "probation")
    #expect(receipt?.rollbacks["ledger"]?.contains(measure) == true, "\(String(describing: receipt))")
    // Its state came back with what was written since.
    #expect(try ledger.node.read("mutable/open/b").text.contains("written since"))
    #expect(try ledger.node.read("mutable/open/a").status == 200)
    // It is not tried again, neither by a hint nor by a reload, until it changes.
    let again = try ledger.reload()
    #expect(again.outcome == "refused" && again.refusals.first?.code == "slot.rolled-back", "\(again)")
    try ledger.configure(keys: "fail_each: 0", reload: Probations.window)
    #expect(try ledger.reload().outcome == "applied")
  }

  /// A stateless slot goes back to the very instance that served before, which is still started.
  @Test func aStatelessSlotGoesBackToTheWarmInstance() throws {
    let ledger = try LedgerNode(Ledger(format: 0, isVolatile: false), reload: Probations.window)
    try ledger.node.put("mutable://open/a", "1")
    try read(ledger.node, 300)
    try ledger.drop(Ledger(version: "2.0.0", format: 0, isVolatile: false))
    #expect(try ledger.reload().outcome == "applied")
    #expect(try ledger.node.read("mutable/open/a").status == 404)
    let (text, _, status) = try ledger.node.command(["rollback"])
    #expect(status == 0 && text.contains("Rolled back slot ledger from version 2.0.0"), "\(text)")
    // It keeps its records in memory and was never stopped.
    #expect(try ledger.node.read("mutable/open/a").status == 200)
    #expect(try ledger.servingVersion() == "1.0.0")
    #expect(try ledger.node.command(["rollback", "nosuch"]).2 == 69)
  }

  @Test func whatPassesIsLeftAloneAndItsPredecessorEnds() throws {
    let ledger = try LedgerNode(
      Ledger(format: 0, isVolatile: false), reload: "probation_ms: 60000, probation_calls: 200")
    try read(ledger.node, 300)
    try ledger.drop(Ledger(version: "2.0.0", format: 0, isVolatile: false))
    #expect(try ledger.reload().outcome == "applied")
    try read(ledger.node, 250)
    #expect(Polling.until { ledger.node.log.contains("probation passed") })
    #expect(try ledger.servingVersion() == "2.0.0")
    // By hand it can still go back, by a fresh instance.
    #expect(try ledger.node.rollBackDirectly().outcome == "rolled back")
    #expect(try ledger.servingVersion() == "1.0.0")
  }

  /// The target is the last one that passed, not the one that was on probation itself.
  @Test func aReloadDuringAProbationKeepsTheTarget() throws {
    let ledger = try LedgerNode(reload: Probations.window)
    try ledger.node.put("mutable://open/a", "1")
    try ledger.drop(Ledger(version: "2.0.0"))
    #expect(try ledger.reload().outcome == "applied")
    try ledger.drop(Ledger(version: "3.0.0"))
    #expect(try ledger.reload().outcome == "applied")
    let receipt = try ledger.node.rollBackDirectly(["ledger"])
    #expect(receipt.outcome == "rolled back", "\(receipt)")
    #expect(try ledger.servingVersion() == "1.0.0")
    #expect(try ledger.node.read("mutable/open/a").status == 200)
  }

  /// A pitfall of others: "New data format unreadable by old code after rollback: state version must gate rollback".
  @Test func rollbackWithNewerState() throws {
    let ledger = try LedgerNode(reload: Probations.window)
    try ledger.node.put("mutable://open/a", "1")
    try ledger.drop(Ledger(version: "2.0.0", format: 2, oldestFormat: 1))
    #expect(try ledger.reload().states["ledger"]?.hasPrefix("moved ") == true)
    let receipt = try ledger.node.rollBackDirectly()
    #expect(receipt.outcome == "refused")
    #expect(receipt.refusals.first?.code == "slot.rollback-impossible")
    #expect(receipt.refusals.first?.message.contains("format 2 was written") == true, "\(receipt)")
    #expect(try ledger.servingVersion() == "2.0.0")
    #expect(try ledger.node.read("mutable/open/a").status == 200)
  }
}
