import Foundation
import NodeTesting
import Testing

/// A transport that follows the node's feed, in the node's process and in its own.
@Suite struct Following {
  /// The follower of Plugins/follower.c, beside memory.
  private final class FollowedNode {
    let node: NodeProcess
    let folder = try! TemporaryFolder()

    init(_ isolation: String) throws {
      try FileManager.default.createDirectory(atPath: folder.path + "/plugins.d", withIntermediateDirectories: true)
      try PluginFile.drop(try FollowedNode.build(in: folder), into: folder.path + "/plugins.d", as: "follower.so")
      node = try NodeProcess(
        folder: folder,
        configuration: """
          reload: {watch: false, settle_ms: 50, drain_soft_ms: 1000, probation_ms: 0}
          slots:
            http: {kind: transport}
            primary: {kind: backend, url: "memory://"}
            follower: {kind: transport, plugin: org.example.follower, isolation: \(isolation)}
          """)
    }

    static func build(in folder: TemporaryFolder) throws -> String {
      try CPlugin.build(
        "\(SourceTree.root)/Tests/NodeIsolationTests/Plugins/follower.c",
        manifest: """
          {"id": "org.example.follower", "version": "1.0.0", "kinds": ["transport"],
           "abi": {"major": 0, "minor": 1}, "runtime": "c", "isolation": "any"}
          """, in: folder)
    }

    /// What it has written, of all its instances.
    var lines: [String] {
      let files = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
      return files.filter { ($0 as NSString).lastPathComponent == "items" }.flatMap { file in
        let text = try? String(contentsOfFile: "\(folder.path)/\(file)", encoding: .utf8)
        return text?.split(separator: "\n").map(String.init) ?? []
      }
    }

    func awaits(_ line: String, count: Int = 1) -> Bool {
      Polling.until { self.lines.filter { $0 == line }.count >= count }
    }
  }

  /// BP_FEED_PLACE, and nothing else.
  private static let place = "4 0  "
  /// BP_FEED_PLACE and BP_FEED_GAP.
  private static let gap = "5 0  "

  @Test(arguments: ["in", "process"])
  func itemsCrossInTheirOrder(_ isolation: String) throws {
    let followed = try FollowedNode(isolation)
    let node = followed.node
    #expect(followed.awaits(Self.place), "\(node.log)")
    for number in 0..<200 {
      #expect(try node.put("mutable://open/followed/\(number % 7)", "\(number)").status == 200)
    }
    #expect(try node.put("mutable://open/other", "1").status == 200)
    let client = try HTTPConnection(port: node.port)
    #expect(try client.request("DELETE", "/api/v1/delete/mutable/open/followed/3").status == 200)
    #expect(followed.awaits("0 1 mutable://open/followed/3 "), "\(followed.lines)")
    let puts = (0..<200).map { "0 0 mutable://open/followed/\($0 % 7) \($0)" }
    #expect(followed.lines == [Self.place] + puts + ["0 1 mutable://open/followed/3 "])
    // One grant for each item, and what it has not granted does not come.
    #expect(try node.metric("backplane_feed_subscriptions ") == 1)
    #expect(try node.metric("backplane_feed_items_total") == 202)
    #expect(node.stop() == 0, "\(node.log)")
    // BP_CANCELLED or BP_CLOSED: core.h, stop.
    #expect(["ended 1", "ended 20"].contains(followed.lines.last))
  }

  @Test func aProcessThatDiesTakesItsSubscriptionWithIt() throws {
    let followed = try FollowedNode("process")
    let node = followed.node
    #expect(followed.awaits(Self.place), "\(node.log)")
    #expect(try node.put("mutable://open/followed/a", "1").status == 200)
    #expect(followed.awaits("0 0 mutable://open/followed/a 1"))
    let child = try #require(ProcessMark.children(of: node.pid).first)
    kill(child.id, SIGKILL)
    // Another one is started, and subscribes anew.
    #expect(followed.awaits(Self.place, count: 2), "\(node.log)")
    #expect(try node.metric("backplane_feed_subscriptions ") == 1)
    #expect(try node.put("mutable://open/followed/a", "2").status == 200)
    #expect(followed.awaits("0 0 mutable://open/followed/a 2"))
    #expect(!followed.lines.contains { $0.hasPrefix("ended") })
  }

  /// A reload of the transport ends what its old instance followed, and nothing waits for that.
  @Test(arguments: ["in", "process"])
  func aReloadEndsTheOldInstancesSubscription(_ isolation: String) throws {
    let followed = try FollowedNode(isolation)
    let node = followed.node
    #expect(followed.awaits(Self.place), "\(node.log)")
    try PluginFile.drop(try FollowedNode.build(in: followed.folder), into: node.pluginsDirectory, as: "follower.so")
    let receipt = try node.reloadDirectly(now: ["*"])
    #expect(receipt.outcome == "applied" && receipt.changes == ["follower:replaced"], "\(receipt) \(node.log)")
    #expect(followed.awaits("ended 1"), "\(node.log)")
    #expect(followed.awaits(Self.place, count: 2))
    #expect(Polling.until { (try? node.metric("backplane_feed_subscriptions ")) == 1 })
    #expect(Polling.until { (try? node.metric("backplane_generations_held")) == 0 }, "\(node.log)")
    #expect(try node.put("mutable://open/followed/b", "1").status == 200)
    #expect(followed.awaits("0 0 mutable://open/followed/b 1"))
  }

  /// The process that is left ends what it had, and takes no more: who follows follows the new one.
  @Test(arguments: ["in", "process"])
  func anUpgradeEndsWhatTheOldProcessHad(_ isolation: String) throws {
    let followed = try FollowedNode(isolation)
    let node = followed.node
    #expect(followed.awaits(Self.place), "\(node.log)")
    #expect(try node.put("mutable://open/followed/a", "1").status == 200)
    #expect(followed.awaits("0 0 mutable://open/followed/a 1"))
    #expect(try node.upgrade().outcome == "applied", "\(node.log)")
    #expect(followed.awaits(Self.place, count: 2), "\(node.log)")
    // What the old process still took is a gap in the new one; then everything is heard.
    var number = 0
    var isHeard = false
    while !isHeard, number < 100 {
      number += 1
      #expect(try node.put("mutable://open/followed/b", "\(number)").status == 200)
      let seen = number
      #expect(
        Polling.until { followed.lines.count { $0.contains("followed/b") || $0 == Self.gap } == seen },
        "\(followed.lines) \(node.log)")
      isHeard = followed.lines.contains("0 0 mutable://open/followed/b \(number)")
    }
    #expect(isHeard, "\(followed.lines) \(node.log)")
    #expect(try node.metric("backplane_feed_subscriptions ") == 1)
    #expect(node.stop() == 0, "\(node.log)")
    #expect(followed.lines.count { $0.contains("followed/b") } == 1)
  }
}
