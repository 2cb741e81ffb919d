import Foundation
import NodeTesting
import Testing

@Test func aReloadWithoutChangesChangesNothing() throws {
  let node = try NodeProcess()
  let receipt = try node.reload()
  #expect(receipt["outcome"] as? String == "unchanged")
  #expect(receipt["generation"] as? Int == 1)
}
