import PluginAPI
import PluginTestHost
import Testing

private final class Guard: Schema {
  let programs = [Program("guarded://open")]
  let judgesDeletes = true

  init(_ configuration: NoConfiguration, _ context: Context) {}

  func judge(_ message: Message, _ reader: JudgeReader) -> Verdict {
    message.isDelete && message.uri.hasSuffix("/kept") ? .reject("it is kept") : .accept
  }
}

/// Answers what is quick at once, and the rest later.
private final class Slow: DirectSchema {
  static let judgeMode = CallMode.async
  static let threads = 1
  let programs = [Program("slow://open")]

  init(_ configuration: NoConfiguration, _ context: Context) {}

  func judge(_ call: JudgeCall) {
    guard call.message.data.size > 1 else { return call.accept() }
    call.later { reader in
      let isThere = (try? await reader.read(call.message.uri.text)) != nil
      if isThere { call.reject("it is there") } else { call.accept() }
    }
  }
}

private let guardEntry = PluginEntry(Guard.self, id: "org.example.guard", version: "1.0.0") {
  Guard.create($0, $1, $2)
}
private let slowEntry = PluginEntry(Slow.self, id: "org.example.slow", version: "1.0.0") { Slow.create($0, $1, $2) }

@Suite struct SchemaTests {
  @Test func aSchemaThatJudgesDeletesIsAskedAboutThem() async throws {
    let host = try TestHost(entry: guardEntry.pointer)
    try await host.start()
    let table = try #require(host.extensionTable("backplane.schema/1", as: bp_schema.self))
    #expect(table.pointee.flags == BP_SCHEMA_JUDGES_DELETES)
    for (uri, isDelete, judgement) in [
      ("guarded://open/a", true, Judgement.accepted([.delete("guarded://open/a")])),
      ("guarded://open/kept", true, .rejected("it is kept")),
      ("guarded://open/kept", false, .accepted([.put("guarded://open/kept", [])])),
    ] {
      #expect(try await host.judge(uri, [], isDelete: isDelete) == judgement)
    }
    try await host.stop()
    host.destroy()
    #expect(host.violations.isEmpty)
  }

  @Test func aDirectSchemaMayGoOnLater() async throws {
    let node = InMemoryNode()
    node.put("slow://open/b", [1])
    let host = try TestHost(entry: slowEntry.pointer, node: node)
    let table = try #require(host.extensionTable("backplane.schema/1", as: bp_schema.self))
    #expect(table.pointee.flags == 0)
    try await host.start()
    #expect(try await host.judge("slow://open/b", [1]) == .accepted([.put("slow://open/b", [1])]))
    #expect(node.reads.isEmpty)
    #expect(try await host.judge("slow://open/b", [1, 2]) == .rejected("it is there"))
    #expect(try await host.judge("slow://open/a", [1, 2]) == .accepted([.put("slow://open/a", [1, 2])]))
    #expect(node.reads.count == 2 && node.reads.allSatisfy { $0.parent != 0 })
    try await host.stop()
    host.destroy()
    #expect(host.violations.isEmpty)
  }
}
