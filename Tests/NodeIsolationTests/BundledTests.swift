import Foundation
import NodeTesting
import Testing

/// Bundled plugins in processes of their own.
@Suite struct IsolatedBundledPlugins {
  private func configuration(_ isolation: String, more: String = "") -> String {
    """
    reload: {watch: false, settle_ms: 50, probation_ms: 0}
    \(more)
    slots:
      memory:
        kind: backend
        url: "memory://"
        isolation: \(isolation)
    """
  }

  /// Its records go from process to process, into the node and back.
  @Test func theMemoryBackendsRecordsMoveWithIt() throws {
    let node = try NodeProcess(configuration: configuration("process"))
    let large = String(repeating: "r", count: 100_000)
    for number in 0..<50 {
      #expect(try node.put("mutable://open/kept/\(number)", "\"\(number)\(large)\"").status == 200)
    }
    func expectAll(_ moment: String) throws {
      for number in 0..<50 {
        let answer = try node.read("mutable/open/kept/\(number)")
        #expect((answer.json as? [String: Any])?["data"] as? String == "\(number)\(large)", "\(moment): \(number)")
      }
    }
    try PluginFile.drop(
      BuiltProducts.plugin("backend-memory"), into: node.pluginsDirectory, as: "libbackplane-backend-memory.so",
      stamp: "another build")
    #expect(try node.reloadDirectly(now: ["*"]).changes == ["memory:replaced"])
    try expectAll("from process to process")
    try node.folder.write(configuration("in"), to: "backplane.yaml")
    #expect(try node.reloadDirectly().changes == ["memory:replaced"])
    try expectAll("into the node")
    #expect(Polling.until { ProcessMark.children(of: node.pid).isEmpty })
    try node.folder.write(configuration("process"), to: "backplane.yaml")
    #expect(try node.reloadDirectly().changes == ["memory:replaced"])
    try expectAll("into a process")
    #expect(ProcessMark.children(of: node.pid).count == 1)
  }

  /// A record is never looked for under another key because the schema that knows the key is away.
  @Test func withoutItsSchemaAURIHasNoCanonicalForm() throws {
    let node = try NodeProcess(
      configuration: configuration("in", more: "isolation: {crashes_max: 1, breaker_open_ms: 60000}")
        + "\n  schema: {isolation: process}")
    let digest = String(repeating: "AB", count: 32)
    #expect(try node.read("hash/sha256/\(digest)").status == 404)
    for _ in 0..<2 {
      #expect(Polling.until { ProcessMark.children(of: node.pid).count == 1 })
      let child = try #require(ProcessMark.children(of: node.pid).first)
      kill(child.id, SIGKILL)
      #expect(Polling.until { !child.isAlive })
    }
    #expect(Polling.until { node.log.contains("breaker open") }, "\(node.log)")
    // It was asked before, and is remembered.
    #expect(try node.read("hash/sha256/\(digest)").status == 404)
    let other = String(repeating: "CD", count: 32)
    let answer = try node.read("hash/sha256/\(other)")
    #expect(answer.status == 503, "\(answer.status) \(answer.text)")
    #expect(try node.put("mutable://open/a", "1").status == 503)
    #expect(try node.health().status == 503)
  }

  @Test func aTransportThatCrashesAnswersOnTheSameSocket() throws {
    let node = try NodeProcess(
      configuration: configuration("in", more: "isolation: {restart_delay_ms_max: 0}")
        + "\n  http: {isolation: process}")
    #expect(try node.put("mutable://open/a", "1").status == 200)
    let child = try #require(ProcessMark.children(of: node.pid).first)
    kill(child.id, SIGKILL)
    #expect(Polling.until { !child.isAlive })
    // Nobody is refused: the socket is the node's, and whoever connects waits a moment.
    #expect(try node.read("mutable/open/a").status == 200)
  }
}
