import Foundation
import NodeTesting
import Testing

/// Whatever becomes of the new process before it serves, the old one serves on and says why.
@Suite struct ARefusedUpgrade {
  private func node(timeoutMs: Int = 60_000) throws -> NodeProcess {
    let node = try NodeProcess(
      configuration: """
        reload: {watch: false, probation_ms: 0, upgrade_timeout_ms: \(timeoutMs)}
        slots: {main: {kind: backend, url: "memory://"}}
        """)
    #expect(try node.put("mutable://open/a", "1").status == 200)
    return node
  }

  private func executable(_ node: NodeProcess, _ script: String) throws -> String {
    let path = node.folder.path + "/next"
    FileManager.default.createFile(
      atPath: path, contents: Data("#!/bin/sh\n\(script)\n".utf8), attributes: [.posixPermissions: 0o755])
    return path
  }

  private func servesOn(_ node: NodeProcess, _ receipt: TestReceipt, because reason: String) throws {
    #expect(receipt.outcome == "refused", "\(receipt)")
    #expect(receipt.refusals.first?.code == "kernel.upgrade-refused")
    #expect(receipt.refusals.first?.message.contains(reason) == true, "\(receipt)")
    #expect(try node.servingPid() == node.pid)
    #expect(try node.read("mutable/open/a").text.hasSuffix("\"data\":1}"))
    #expect(try node.put("mutable://open/b", "2").status == 200)
    #expect(try node.receipts().first?.id == receipt.id)
    // And it can still be replaced.
    #expect(try node.upgrade().outcome == "applied")
    #expect(try node.read("mutable/open/b").text.hasSuffix("\"data\":2}"))
    #expect(node.stop() == 0)
  }

  @Test func theNewExecutableCrashesAtItsStart() throws {
    let node = try node()
    let receipt = try node.upgrade(try executable(node, "kill -SEGV $$"))
    try servesOn(node, receipt, because: "has ended before it was ready (SIGSEGV)")
  }

  @Test func theNewExecutableHangs() throws {
    let node = try node(timeoutMs: 3000)
    let receipt = try node.upgrade(try executable(node, "echo $$ > hanging; exec sleep 1000"))
    let hanging = try String(contentsOfFile: node.folder.path + "/hanging", encoding: .utf8)
    #expect(!isAlive(Int32(hanging.trimmingCharacters(in: .whitespacesAndNewlines))!))
    try servesOn(node, receipt, because: "reload.upgrade_timeout_ms")
  }

  @Test func theNewExecutableIsNotThere() throws {
    let node = try node()
    try servesOn(node, try node.upgrade(node.folder.path + "/nothing"), because: "No such file or directory")
  }

  @Test func theConfigurationIsRefused() throws {
    let node = try node()
    let good = try String(contentsOfFile: node.folder.path + "/backplane.yaml", encoding: .utf8)
    try node.folder.write("slots: [", to: "backplane.yaml")
    let receipt = try node.upgrade()
    try node.folder.write(good, to: "backplane.yaml")
    try servesOn(node, receipt, because: "the configuration cannot be used")
  }

  @Test func theNewProcessIsKilledBeforeItServes() throws {
    let node = try node()
    // The script becomes the kernel itself, and stops it as soon as it holds a plugin.
    let next = try executable(
      node,
      """
      (while ! grep -q libbackplane-backend-memory\\\\\\|staging /proc/$$/maps; do :; done; kill -9 $$) &
      exec \(BuiltProducts.backplane) "$@"
      """)
    let load = Load(clients: 4, port: node.port)
    let receipt = try node.upgrade(next)
    #expect(load.passes(50))
    #expect(load.end())
    #expect(load.seen.failures.isEmpty, "\(load.seen.failures.prefix(5))")
    try servesOn(node, receipt, because: "SIGKILL")
  }

  @Test func aSlotDoesNotStartInTheNewProcess() throws {
    let lock = NSTemporaryDirectory() + "ledger-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: lock) }
    // It says that two can be beside each other, which is not so.
    let ledger = try LedgerNode(Ledger(), keys: "lock: \"\(lock)\"")
    #expect(try ledger.node.put("mutable://open/a", "1").status == 200)
    let receipt = try ledger.node.upgrade()
    #expect(receipt.outcome == "refused" && receipt.refusals.first?.message.contains("ledger") == true, "\(receipt)")
    #expect(try ledger.node.read("mutable/open/a").status == 200)
    #expect(try ledger.node.servingPid() == ledger.node.pid)
    #expect(ledger.node.stop() == 0)
  }

  @Test func theRestOfTheStateCannotBeExported() throws {
    let ledger = try LedgerNode(Ledger(), keys: "fail_export: rest")
    let load = Load(clients: 4, port: ledger.node.port)
    #expect(load.passes(20))
    let receipt = try ledger.node.upgrade()
    #expect(receipt.outcome == "refused", "\(receipt)")
    #expect(load.passes(20))
    #expect(load.end())
    let lost = try Load.missing(load.seen.acknowledged, port: ledger.node.port)
    #expect(lost.isEmpty, "\(lost)")
    #expect(try ledger.node.servingPid() == ledger.node.pid)
    #expect(ledger.node.stop() == 0)
  }

  @Test func recordsThatCannotBeHandedOverAreKept() throws {
    let ledger = try LedgerNode(Ledger(format: 0))
    let receipt = try ledger.node.upgrade()
    #expect(receipt.outcome == "refused")
    #expect(receipt.refusals.first?.message.contains("cannot hand them over") == true, "\(receipt)")
    #expect(try ledger.node.servingPid() == ledger.node.pid)
  }
}
