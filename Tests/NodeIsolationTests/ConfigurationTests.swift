import Foundation
import NodeTesting
import Testing

@Suite struct IsolationConfiguration {
  @Test func aManifestsWishIsFollowed() throws {
    let misfit = try MisfitNode(Misfit(wish: "process"), keys: "order: 1")
    #expect(try misfit.processID() != misfit.node.pid)
  }

  @Test func withoutAWishItIsInTheNode() throws {
    let misfit = try MisfitNode(keys: "order: 1")
    #expect(try misfit.processID() == misfit.node.pid)
  }

  @Test func thePolicyIsolatesWhatAllowsIt() throws {
    let misfit = try MisfitNode(settings: "isolation: {default: process}", keys: "order: 1")
    #expect(try misfit.processID() != misfit.node.pid)
    // All four slots: transport and schema too.
    #expect(ProcessMark.children(of: misfit.node.pid).count == 3)
  }

  @Test(arguments: [("in", "process"), ("process", "in")])
  func aContradictionIsRefusedWithASentence(wish: String, slot: String) throws {
    let misfit = try MisfitNode(Misfit(wish: wish), keys: "isolation: \(slot)", waits: false)
    #expect(misfit.node.wait() != 0)
    #expect(misfit.node.log.contains("slot 'misfit' says isolation: \(slot)"), "\(misfit.node.log)")
  }

  @Test func aChangedKeyMovesAnInstance() throws {
    let misfit = try MisfitNode(keys: "order: 1")
    #expect(try misfit.processID() == misfit.node.pid)
    try misfit.folder.write(MisfitNode.yaml(keys: "isolation: process"), to: "backplane.yaml")
    #expect(try misfit.node.reloadDirectly().outcome == "applied")
    let first = try misfit.processID()
    #expect(first != misfit.node.pid)
    let limits = "isolation: process\n    limits: {cpu_seconds_max: 1000}"
    try misfit.folder.write(MisfitNode.yaml(keys: limits), to: "backplane.yaml")
    #expect(try misfit.node.reloadDirectly().outcome == "applied")
    #expect(try misfit.processID() != first)
    try misfit.folder.write(MisfitNode.yaml(keys: "isolation: in"), to: "backplane.yaml")
    #expect(try misfit.node.reloadDirectly().outcome == "applied")
    #expect(try misfit.processID() == misfit.node.pid)
    #expect(Polling.until { ProcessMark.children(of: misfit.node.pid).isEmpty })
  }
}
