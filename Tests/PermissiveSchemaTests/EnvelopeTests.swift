import PluginAPI
import PluginTestHost
import Testing

@Suite struct EnvelopeTests {
  private static func envelope(_ outputs: String...) -> String {
    #"{"payload":{"inputs":[],"outputs":["# + outputs.joined(separator: ",") + "]}}"
  }

  @Test func theEnvelopeIsFinalAndItsOutputsAreToBeJudged() async throws {
    try await withPermissive { (host: TestHost) async throws in
      let json = Self.envelope(#"["mutable://open/a", {"x" : 1} ]"#, #"["Link://Open/b//c?q","mutable://open/a"]"#)
      let judgement = try await host.judge(received: "mutable://open/e", json: json)
      #expect(
        judgement
          == .accepted([
            Op(.put(data: Array(json.utf8), content: .json), uri: "mutable://open/e"),
            Op(.put(data: Array(#"{"x" : 1}"#.utf8), content: .json), uri: "mutable://open/a", isToJudge: true),
            // As received: the kernel normalises, and errors quote it.
            Op(
              .put(data: Array(#""mutable://open/a""#.utf8), content: .json), uri: "Link://Open/b//c?q",
              isToJudge: true),
          ]))
    }
  }

  @Test func escapedTextsAndMarkersAreResolved() async throws {
    try await withPermissive { (host: TestHost) async throws in
      let json =
        #"{"pay\u006coad":{"inp\u0075ts":[],"outputs":[["mutable:\/\/open\/\u0061\ud83d\ude00",1],"#
        + #"["mutable://open/p",{"__b3nd_binary__":true,"encoding":"base64","data":"AP\u0039oaQ"}],"#
        + #"["mutable://open/empty",{"__b3nd_binary__":true,"encoding":"base64","data":""}],"#
        + #"["mutable://open/q",{"__b3nd_binary__":true,"encoding":"hex","data":"00"}]]}}"#
      guard case .accepted(let ops) = try await host.judge(received: "mutable://open/e", json: json) else {
        Issue.record("refused")
        return
      }
      #expect(
        Array(ops.dropFirst()) == [
          Op(.put(data: Array("1".utf8), content: .json), uri: "mutable://open/a😀", isToJudge: true),
          Op(.put(data: [0x00, 0xFF, 0x68, 0x69], content: .bytes), uri: "mutable://open/p", isToJudge: true),
          Op(.put(data: [], content: .bytes), uri: "mutable://open/empty", isToJudge: true),
          Op(
            .put(data: Array(#"{"__b3nd_binary__":true,"encoding":"hex","data":"00"}"#.utf8), content: .json),
            uri: "mutable://open/q", isToJudge: true),
        ])
    }
  }

  @Test func aMarkerAtAHashURIIsHashedAsBytes() async throws {
    // The digest of the one byte "x"; reference exchange 230.
    let uri = "hash://sha256/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    try await withPermissive { (host: TestHost) async throws in
      let good = Self.envelope(#"["\#(uri)",{"__b3nd_binary__":true,"encoding":"base64","data":"eA=="}]"#)
      guard case .accepted(let ops) = try await host.judge(received: "mutable://open/e", json: good) else {
        Issue.record("refused")
        return
      }
      #expect(ops[1] == Op(.put(data: [0x78], content: .bytes), uri: uri, isToJudge: true))
      let bad = Self.envelope(#"["\#(uri)","x"]"#)
      #expect(try await host.judge(received: "mutable://open/e", json: bad) == .rejected("Content hash mismatch"))
    }
  }

  @Test func theFirstRefusalIsTheAnswer() async throws {
    let hash = "hash://sha256/" + String(repeating: "2", count: 64)
    let cases: [(outputs: [String], text: String)] = [
      ([#"["notauri",1]"#, #"["\#(hash)",1]"#], "Invalid output URI: notauri"),
      ([#"["\#(hash)",1]"#, #"["notauri",1]"#], "Content hash mismatch"),
      ([#"["mutable://open/a",1]"#, #"["",1]"#], "Invalid output URI: "),
      ([#"["HASH://md5/x",1]"#], "Unsupported algorithm: md5"),
      ([#"["ha\tsh://s pace/x",1]"#], "Invalid hash URI format"),
      ([#"["mutable://o p\u0065n/x",1]"#], "Invalid output URI: mutable://o pen/x"),
    ]
    try await withPermissive { (host: TestHost) async throws in
      for (outputs, text) in cases {
        let json = #"{"payload":{"inputs":[],"outputs":["# + outputs.joined(separator: ",") + "]}}"
        #expect(try await host.judge(received: "mutable://open/e", json: json) == .rejected(text))
      }
    }
  }

  /// Half of them need memory of their own, which must not be moved for each.
  @Test(.timeLimit(.minutes(1))) func aHundredThousandOutputsAndNotOneMore() async throws {
    try await withPermissive { (host: TestHost) async throws in
      let marker =
        #"{"__b3nd_binary__":true,"encoding":"base64","data":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#
      let outputs = (0..<100_000).map { $0 % 2 == 0 ? "[\"m:\\/\\/o/\($0)\",\(marker)]" : "[\"m://o/\($0)\",\($0)]" }
      let most = #"{"payload":{"inputs":[],"outputs":["# + outputs.joined(separator: ",") + "]}}"
      guard case .accepted(let ops) = try await host.judge(received: "mutable://open/e", json: most) else {
        Issue.record("refused")
        return
      }
      #expect(ops.count == 100_001)
      #expect(ops[1] == Op(.put(data: Array(0...31), content: .bytes), uri: "m://o/0", isToJudge: true))
      #expect(ops[99_999] == Op(.put(data: Array(0...31), content: .bytes), uri: "m://o/99998", isToJudge: true))
      #expect(
        ops[100_000] == Op(.put(data: Array("99999".utf8), content: .json), uri: "m://o/99999", isToJudge: true))
      let more = #"{"payload":{"inputs":[],"outputs":[["m://o/x",1],"# + outputs.joined(separator: ",") + "]}}"
      #expect(
        try await host.judge(received: "mutable://open/e", json: more)
          == .rejected(
            "Validation error: the envelope has 100001 outputs, and 100000 is the most that one may have: send several "
              + "envelopes."))
    }
  }
}
