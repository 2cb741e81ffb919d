import PluginAPI
import PluginTestHost
import Testing

/// What crosses the boundary, looked at as the structs themselves.
@Suite struct BoundaryTests {
  private struct RawOp: Sendable, Equatable {
    var flags: UInt32
    var content: UInt32
    var isSized: Bool
    var isPlain: Bool
    /// Where the views lie in the message's data; nil: elsewhere.
    var uriOffset: Int?
    var dataOffset: Int?
    /// Whether both views are the message's own uri and data.
    var isTheMessage: Bool
  }

  private func judge(_ host: TestHost, _ uri: String, _ json: String) async throws -> [RawOp] {
    let schema = try #require(host.extensionTable("backplane.schema/1", as: bp_schema.self))
    #expect(schema.pointee.judge_mode == BP_MODE_DIRECT)
    #expect(schema.pointee.flags == 0)
    let judge = schema.pointee.judge
    let plugin = host.pluginSelf
    let place = Place()
    return try await host.call(
      bp_verdict.self, mode: .direct,
      submit: { arena, call, token in
        let uri = arena.view(uri)
        let data = arena.view(json)
        place.uri = UInt(bitPattern: uri.data)
        place.data = UInt(bitPattern: data.data)
        place.count = Int(data.size)
        let message = arena.make(
          bp_message(
            size: .size(of: bp_message.self), verb: BP_VERB_PUT, content: BP_CONTENT_JSON, depth: 0, ts_ms: 1,
            uri: uri, uri_received: uri, program: .empty, data: data))
        judge?(plugin, call, message, token)
      },
      read: { verdict in
        (0..<Int(verdict.ops_count)).map { index in
          let op = verdict.ops[index]
          func offset(_ view: bp_view) -> Int? {
            let distance = Int(bitPattern: UInt(bitPattern: view.data) &- place.data)
            return (0..<place.count).contains(distance) ? distance : nil
          }
          return RawOp(
            flags: op.flags, content: op.content, isSized: op.size == .size(of: bp_op.self),
            isPlain: op.verb == BP_VERB_PUT && op.condition == BP_IF_ANY && op.if_version == 0 && op.reserved == 0,
            uriOffset: offset(op.uri), dataOffset: offset(op.data),
            isTheMessage: UInt(bitPattern: op.uri.data) == place.uri && UInt(bitPattern: op.data.data) == place.data)
        }
      })
  }

  /// Written by `submit` before `read` can run: a direct call completes inside `submit`, on one thread.
  private final class Place: @unchecked Sendable {
    // @unchecked: see above.
    var uri: UInt = 0
    var data: UInt = 0
    var count = 0
  }

  @Test func aPlainValueIsHandedBackInPlace() async throws {
    try await withPermissive { (host: TestHost) async throws in
      let ops = try await judge(host, "mutable://open/a", #"{"payload":1}"#)
      #expect(ops.count == 1)
      #expect(ops[0].isTheMessage && ops[0].isSized && ops[0].isPlain && ops[0].flags == 0)
    }
  }

  @Test func outputsPointIntoTheMessage() async throws {
    try await withPermissive { (host: TestHost) async throws in
      let json =
        #"{"payload":{"inputs":[],"outputs":[["m://o/a",17],["m:\/\/o/b",{"__b3nd_binary__":true,"encoding":"base64","data":"eA"}]]}}"#
      let ops = try await judge(host, "mutable://open/a", json)
      #expect(ops.count == 3)
      #expect(ops.allSatisfy { $0.isSized && $0.isPlain })
      #expect(ops[0].isTheMessage && ops[0].flags == 0)
      #expect(ops[1].flags == BP_OP_TO_JUDGE && ops[1].content == BP_CONTENT_JSON)
      let start = #"{"payload":{"inputs":[],"outputs":["#.utf8.count
      #expect(ops[1].uriOffset == start + #"[""#.utf8.count && ops[1].dataOffset == start + #"["m://o/a","#.utf8.count)
      // Unescaped and decoded: in memory of the verdict's own.
      #expect(ops[2].flags == BP_OP_TO_JUDGE && ops[2].content == BP_CONTENT_BYTES)
      #expect(ops[2].uriOffset == nil && ops[2].dataOffset == nil)
    }
  }
}
