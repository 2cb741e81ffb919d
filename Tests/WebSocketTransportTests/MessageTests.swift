import Foundation
import NodeTesting
import PluginAPI
import Testing

extension WebSocketTests {
  @Suite struct MessageTests {
    @Test(arguments: Carrier.allCases) func everyType(carrier: Carrier) async throws {
      try await withTransport(carrier) { fixture in
        let client = try fixture.client()
        func ask(_ type: String, _ payload: String) throws -> String {
          let answer = try client.ask(#"{"id":"7","type":"\#(type)","payload":\#(payload)}"#)
          let head = #"{"id":"7","success":true,"data":"#
          #expect(answer.hasPrefix(head) && answer.hasSuffix("}"), "\(answer)")
          return String(answer.dropFirst(head.count).dropLast())
        }
        #expect(try ask("receive", #"{"tx":["mutable://open/a",{"b": 1.50}]}"#) == #"{"accepted":true}"#)
        #expect(try ask("receive", #"{"tx":["mutable://open/b","x"]}"#) == #"{"accepted":true}"#)
        #expect(
          try ask("receive", #"{"tx":["mutable://open/b"]}"#)
            == #"{"accepted":false,"error":"Invalid message format: expected { tx: [uri, data] }"}"#)
        #expect(try ask("receive", #"{"tx":["",1]}"#) == #"{"accepted":false,"error":"Message URI is required"}"#)
        // As it was received, to the byte.
        #expect(
          try ask("read", #"{"uri":"mutable://open/a"}"#) == #"{"success":true,"record":{"ts":1,"data":{"b": 1.50}}}"#)
        #expect(
          try ask("read", #"{"uri":"mutable://open/\u00fc\"c"}"#)
            == #"{"success":false,"error":"Not found: mutable://open/\u00fc\"c"}"#)
        #expect(
          try ask("readMulti", #"{"uris":["mutable://open/a","mutable://open/none"]}"#)
            == joined(
              #"{"success":true,"results":[{"uri":"mutable://open/a","success":true,"record":{"ts":1,"data":{"b": 1.50}}},"#,
              #"{"uri":"mutable://open/none","success":false,"error":"Not found: mutable://open/none"}],"#,
              #""summary":{"total":2,"succeeded":1,"failed":1}}"#))
        #expect(
          try ask("readMulti", #"{"uris":[]}"#)
            == #"{"success":false,"results":[],"summary":{"total":0,"succeeded":0,"failed":0}}"#)
        let many = Array(repeating: #""mutable://open/a""#, count: 51).joined(separator: ",")
        #expect(
          try ask("readMulti", #"{"uris":[\#(many)]}"#)
            == #"{"success":false,"results":[],"summary":{"total":51,"succeeded":0,"failed":51}}"#)
        #expect(
          try ask("list", #"{"uri":"mutable://open"}"#)
            == joined(
              #"{"success":true,"data":[{"uri":"mutable://open/a"},{"uri":"mutable://open/b"}],"#,
              #""pagination":{"page":1,"limit":50,"total":2}}"#))
        #expect(
          try ask("list", #"{"uri":"mutable://open","options":{"page":2,"limit":1,"sortOrder":"desc"}}"#)
            == #"{"success":true,"data":[{"uri":"mutable://open/a"}],"pagination":{"page":2,"limit":1,"total":2}}"#)
        #expect(
          try ask("list", #"{"uri":"mutable://open","options":{"page":0,"limit":"x"}}"#).hasSuffix(
            #""pagination":{"page":1,"limit":50,"total":2}}"#))
        #expect(try ask("delete", #"{"uri":"mutable://open/b"}"#) == #"{"success":true}"#)
        #expect(
          try ask("delete", #"{"uri":"mutable://open/b"}"#)
            == #"{"success":false,"error":"Not found: mutable://open/b"}"#)
        #expect(try ask("health", "{}") == #"{"status":"healthy","backends":[]}"#)
        #expect(try ask("getSchema", "{}") == #"["mutable://open","hash://sha256"]"#)
        #expect(fixture.waits("websocket_requests_total", ["type": "delete"], is: 2))
        #expect(fixture.metric("websocket_connections") == 1)
      }
    }

    @Test func bytesHaveTheMarkerWithoutEncoding() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        for (name, marker) in [
          ("a", #"{"__b3nd_binary__":true,"data":"AAEC"}"#),
          ("b", #"{"__b3nd_binary__":true,"encoding":"base64","data":"AAEC"}"#),
          ("c", #"{ "data" : "AAE-_w", "__b3nd_binary__" : true, "more": 1 }"#),
        ] {
          let answer = try client.ask(
            #"{"id":1,"type":"receive","payload":{"tx":["mutable://open/\#(name)",\#(marker)]}}"#)
          #expect(answer == #"{"id":1,"success":true,"data":{"accepted":true}}"#)
        }
        #expect(fixture.node.memory.records["mutable://open/a"]?.data == [0, 1, 2])
        #expect(fixture.node.memory.records["mutable://open/b"]?.content == .bytes)
        #expect(fixture.node.memory.records["mutable://open/c"]?.data == [0, 1, 0x3E, 0xFF])
        #expect(
          try client.ask(#"{"id":1,"type":"read","payload":{"uri":"mutable://open/a"}}"#)
            == #"{"id":1,"success":true,"data":{"success":true,"record":{"ts":1,"data":{"__b3nd_binary__":true,"data":"AAEC"}}}}"#
        )
        #expect(
          try client.ask(#"{"id":1,"type":"readMulti","payload":{"uris":["mutable://open/b"]}}"#).contains(
            #""data":{"__b3nd_binary__":true,"data":"AAEC"}}"#))
        // Anything else stays JSON.
        for data in [
          #"{"__b3nd_binary__":true,"encoding":"hex","data":"AAEC"}"#, #"{"__b3nd_binary__":1,"data":"AAEC"}"#,
          #"[{"__b3nd_binary__":true,"data":"AAEC"}]"#,
        ] {
          _ = try client.ask(#"{"id":1,"type":"receive","payload":{"tx":["mutable://open/d",\#(data)]}}"#)
          #expect(fixture.node.memory.records["mutable://open/d"]?.data == Array(data.utf8))
          #expect(fixture.node.memory.records["mutable://open/d"]?.content == .json)
        }
      }
    }

    @Test func idsOfAnyKindComeBackAsTheyWere() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        for id in [
          #""9b2e""#, "1", "-0.0", "1e400", "null", "true", #"{"a": [1, 2]}"#, "[]", #""\u00e9\/""#,
          "123456789012345678901",
        ] {
          #expect(
            try client.ask(#"{"type":"read","payload":{"uri":"mutable://open/x"},"id":\#(id)}"#)
              == #"{"id":\#(id),"success":true,"data":{"success":false,"error":"Not found: mutable://open/x"}}"#)
          #expect(
            try client.ask(#"{"id": \#(id) ,"type":"nonsense"}"#)
              == #"{"id":\#(id),"success":false,"error":"Unknown request type"}"#)
        }
        #expect(
          try client.ask(#"{"type":"getSchema"}"#).hasPrefix(#"{"id":null,"success":true"#), "without an id it is null")
        for text in [#"{"id":1}"#, #"{"id":1,"type":7}"#, "{\"id\":1,\"type\":\"Read\"}"] {
          #expect(try client.ask(text) == #"{"id":1,"success":false,"error":"Unknown request type"}"#)
        }
        for text in [#"{"id":1,"type":"read"}"#, #"{"id":1,"type":"read","payload":{"uri":3}}"#] {
          #expect(
            try client.ask(text)
              == #"{"id":1,"success":false,"error":"Invalid request format: expected a payload with a uri"}"#)
        }
      }
    }

    @Test func whatIsNoRequestClosesTheConnection() async throws {
      try await withTransport(.shared, #"{"websocket":{"json_depth_max":16}}"#) { fixture in
        for (text, code) in [
          ("", 1007), ("{", 1007), ("nonsense", 1007), ("[1]", 1007), ("7", 1007), (#"{"id":01}"#, 1007),
          (#"{"id":1} x"#, 1007), (String(repeating: "[", count: 100_000), 1008),
        ] {
          let client = try fixture.client()
          try client.sendText(text)
          #expect(try client.readClose()?.code == code, "\(text.prefix(20))")
          #expect(try client.connection.waitForClose())
        }
        #expect(fixture.waits("websocket_closed_total", ["cause": "malformed"], is: 8))
      }
    }

    @Test func theNodesRefusalsAndFailures() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        let message = #"{"id":1,"type":"receive","payload":{"tx":["mutable://open/a",1]}}"#
        fixture.node.memory.refuse(Failure(code: BP_REJECTED, "not \"this\""))
        #expect(
          try client.ask(message) == #"{"id":1,"success":true,"data":{"accepted":false,"error":"not \"this\""}}"#)
        fixture.node.memory.refuse(.unavailable("come back later"))
        #expect(try client.ask(message) == #"{"id":1,"success":false,"error":"come back later"}"#)
        fixture.node.memory.refuse(Failure(code: BP_INTERNAL, "the disk's own words"))
        #expect(try client.ask(message) == #"{"id":1,"success":false,"error":"Internal Server Error"}"#)
        #expect(fixture.host.logs.contains { $0.fields["reason"] == "the disk's own words" })
      }
    }

    /// Answers come in whatever order the node has them.
    @Test func aSlowRequestHoldsNobodyUp() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        fixture.node.shut()
        try client.sendText(#"{"id":"slow","type":"read","payload":{"uri":"mutable://open/a"}}"#)
        #expect(Polling.until(seconds: 60) { fixture.node.calls == 1 })
        #expect(try client.ask(#"{"id":"fast","type":"getSchema"}"#).hasPrefix(#"{"id":"fast""#))
        fixture.node.open()
        #expect(try client.readText().hasPrefix(#"{"id":"slow""#))
      }
    }

    @Test func largeMessagesBothWays() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        for count in [100, 125, 126, 127, 65_400, 65_535, 65_536, 3 << 20] {
          let text = String(repeating: "x", count: count)
          let put = #"{"id":1,"type":"receive","payload":{"tx":["mutable://open/big","\#(text)"]}}"#
          #expect(try client.ask(put) == #"{"id":1,"success":true,"data":{"accepted":true}}"#)
          let answer = try client.ask(#"{"id":1,"type":"read","payload":{"uri":"mutable://open/big"}}"#)
          #expect(answer.utf8.count > count && answer.hasSuffix("\"\(text)\"}}}"), "\(count)")
        }
      }
    }
  }
}
