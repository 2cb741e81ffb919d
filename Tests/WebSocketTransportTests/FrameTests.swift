import Foundation
import NodeTesting
import Testing

extension WebSocketTests {
  /// The protocol itself (RFC 6455), by hand.
  @Suite struct FrameTests {
    private static let request = #"{"id":1,"type":"getSchema","payload":{}}"#
    private static let answer = #"{"id":1,"success":true,"data":["mutable://open","hash://sha256"]}"#

    @Test func theHandshakeIsRefusedWithAReason() async throws {
      try await withTransport(.shared, #"{"websocket":{"origins":["https://app.example"]}}"#) { fixture in
        for (headers, status) in [
          (["upgrade": "h2c"], 426), (["connection": "keep-alive"], 426), (["sec-websocket-version": "8"], 426),
          (["sec-websocket-version": ""], 426), (["sec-websocket-key": ""], 400), (["sec-websocket-key": "short"], 400),
          (["origin": "https://evil.example"], 403), (["origin": "null"], 403),
        ] as [([String: String], Int)] {
          do {
            _ = try fixture.client(headers: headers)
            Issue.record("\(headers) was let in")
          } catch let refused as WebSocketClient.Refused {
            #expect(refused.answer.status == status, "\(headers)")
            #expect(refused.answer.headers["sec-websocket-version"] == (status == 426 ? "13" : nil), "\(headers)")
            #expect(!refused.answer.text.isEmpty)
          }
        }
        for headers in [
          ["origin": "https://APP.example"], ["connection": "keep-alive, Upgrade", "upgrade": "WebSocket"],
        ] {
          #expect(try fixture.client(headers: headers).ask(Self.request) == Self.answer)
        }
        let plain = try HTTPConnection(port: fixture.port)
        #expect(try plain.get("/api/v1/ws").status == 426)
        #expect(try plain.get("/health/live").status == 200, "the connection goes on")
        #expect(try plain.request("POST", "/api/v1/ws", body: []).status == 404)
        // Requests before it on the same connection.
        try plain.send("GET /health/live HTTP/1.1\r\nhost: t\r\n\r\n" + WebSocketClient.handshake())
        #expect(try plain.readAnswer().status == 200)
        #expect(try plain.readAnswer(mayUpgrade: true).status == 101)
        try plain.send(WebSocketClient.frame(1, Array(Self.request.utf8)))
        #expect(try plain.readBytes(2) == [0x81, UInt8(Self.answer.utf8.count)])
      }
    }

    /// A client that sends on without waiting for the answer.
    @Test func framesBehindTheHandshake() async throws {
      try await withTransport { fixture in
        let frames = Array(repeating: WebSocketClient.frame(1, Array(Self.request.utf8)), count: 3).flatMap { $0 }
        let client = try fixture.client(trailing: frames)
        for _ in 0..<3 { #expect(try client.readText() == Self.answer) }
        // The same, torn within a frame.
        let torn = try fixture.client(trailing: Array(frames.dropLast(20)))
        for _ in 0..<2 { #expect(try torn.readText() == Self.answer) }
        try torn.send(Array(frames.suffix(20)))
        #expect(try torn.readText() == Self.answer)
      }
    }

    @Test func fragments() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        let bytes = Array(Self.request.utf8)
        // Byte by byte, with control frames between, and empty fragments.
        try client.send(WebSocketClient.frame(1, [], isFinal: false))
        for byte in bytes {
          try client.send(WebSocketClient.frame(0, [byte], isFinal: false))
          try client.send(WebSocketClient.frame(9, [byte]))
          #expect(try client.readFrame() == .init(opcode: 10, isFinal: true, reserved: 0, payload: [byte]))
        }
        try client.send(WebSocketClient.frame(0, []))
        #expect(try client.readText() == Self.answer)
        // Every split of the bytes on the wire.
        let frame = WebSocketClient.frame(1, bytes)
        for split in 1..<frame.count {
          try client.send(Array(frame[..<split]))
          try client.send(Array(frame[split...]))
          #expect(try client.readText() == Self.answer)
        }
      }
    }

    @Test func pingsAreAnsweredAndPongsIgnored() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        for payload in [[], Array("ping".utf8), [UInt8](repeating: 0xFE, count: 125)] as [[UInt8]] {
          try client.send(WebSocketClient.frame(9, payload))
          #expect(try client.readFrame() == .init(opcode: 10, isFinal: true, reserved: 0, payload: payload))
          try client.send(WebSocketClient.frame(10, payload))
        }
        #expect(try client.ask(Self.request) == Self.answer)
      }
    }

    @Test func violationsCloseWithTheirCode() async throws {
      try await withTransport(.shared, #"{"websocket":{"message_size_bytes_max":1000}}"#) { fixture in
        func text(_ count: Int) -> [UInt8] { [UInt8](repeating: 0x20, count: count) }
        typealias Frame = WebSocketClient
        let open = Array(#"{"id":""#.utf8)
        let end = Array(#""}"#.utf8)
        let huge: [UInt8] = [0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4]
        let impossible: [UInt8] = [0x81, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4]
        var cases: [(name: String, bytes: [UInt8], code: Int)] = []
        func expect(_ name: String, _ code: Int, _ frames: [UInt8]...) {
          cases.append((name, frames.flatMap { $0 }, code))
        }
        expect("reserved bit 1", 1002, Frame.frame(1, text(5), reserved: 4))
        expect("reserved bit 3", 1002, Frame.frame(9, text(5), reserved: 1))
        expect("reserved opcode 3", 1002, Frame.frame(3, text(5)))
        expect("reserved opcode 11", 1002, Frame.frame(11, text(5)))
        expect("a reserved bit before its data", 1002, Array(Frame.frame(1, text(900), reserved: 2).prefix(2)))
        expect("not masked", 1002, Frame.frame(1, text(5), isMasked: false))
        expect("fragmented ping", 1002, Frame.frame(9, text(5), isFinal: false))
        expect("long ping", 1002, Frame.frame(9, text(126)))
        expect("a continuation of nothing", 1002, Frame.frame(0, text(5)))
        expect("a message within a message", 1002, Frame.frame(1, text(5), isFinal: false), Frame.frame(1, []))
        expect("binary", 1003, Frame.frame(2, text(5)))
        expect("too large", 1009, Frame.frame(1, text(1001)))
        expect("too large, said so", 1009, huge)
        expect("impossibly large", 1009, impossible)
        expect("too large in pieces", 1009, Frame.frame(1, text(600), isFinal: false), Frame.frame(0, text(600)))
        expect("invalid UTF-8", 1007, Frame.frame(1, [open, [0xC0, 0x80], end].flatMap { $0 }))
        expect("a surrogate in UTF-8", 1007, Frame.frame(1, [open, [0xED, 0xA0, 0x80], end].flatMap { $0 }))
        let cut = [open, [0xE2, 0x82]].flatMap { $0 }
        expect("invalid UTF-8 in pieces", 1007, Frame.frame(1, cut, isFinal: false), Frame.frame(0, end))
        expect("a close frame of one byte", 1002, Frame.frame(8, [3]))
        expect("close code 999", 1002, Frame.frame(8, [0x03, 0xE7]))
        expect("close code 1005", 1002, Frame.frame(8, [0x03, 0xED]))
        expect("close code 1015", 1002, Frame.frame(8, [0x03, 0xF7]))
        expect("close code 2999", 1002, Frame.frame(8, [0x0B, 0xB7]))
        expect("close code 5000", 1002, Frame.frame(8, [0x13, 0x88]))
        expect("a close reason that is no UTF-8", 1007, Frame.frame(8, [0x03, 0xE8, 0xFF]))
        expect("a long close frame", 1002, Frame.frame(8, [[0x03, 0xE8], text(124)].flatMap { $0 }))
        for (name, bytes, code) in cases {
          let client = try fixture.client()
          try client.send(bytes)
          #expect(try client.readClose()?.code == code, "\(name)")
          #expect(try client.connection.waitForClose(), "\(name)")
        }
        // A character that is cut between two fragments is whole.
        let client = try fixture.client()
        try client.send(Frame.frame(1, cut, isFinal: false))
        try client.send(Frame.frame(0, [[0xAC], Array(#"","type":"x"}"#.utf8)].flatMap { $0 }))
        #expect(try client.readText() == #"{"id":"€","success":false,"error":"Unknown request type"}"#)
      }
    }

    @Test func theClientSaysGoodbye() async throws {
      try await withTransport { fixture in
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999] {
          let client = try fixture.client()
          try client.sendClose(code, "so long")
          #expect(try client.readFrame().payload == [UInt8(code >> 8), UInt8(code & 0xFF)])
          #expect(try client.connection.waitForClose())
        }
        let silent = try fixture.client()
        try silent.sendClose(nil)
        #expect(try silent.readFrame() == .init(opcode: 8, isFinal: true, reserved: 0, payload: []))
        #expect(try silent.connection.waitForClose())
        // What comes behind a close frame is not looked at.
        let eager = try fixture.client()
        let late = Array(#"{"id":1,"type":"receive","payload":{"tx":["mutable://open/late",1]}}"#.utf8)
        try eager.send([WebSocketClient.frame(8, [0x03, 0xE8]), WebSocketClient.frame(1, late)].flatMap { $0 })
        #expect(try eager.readClose()?.code == 1000)
        #expect(fixture.node.memory.records.isEmpty)
        // Gone without a word.
        for _ in 0..<3 { _ = try fixture.client() }
        #expect(fixture.waits("websocket_connections", is: 0))
      }
    }

    /// Whatever bytes come: an answer or the end, and the next client is served.
    @Test func noise() async throws {
      try await withTransport(.shared, #"{"websocket":{"message_size_bytes_max":4096,"close_timeout_ms":200}}"#) {
        fixture in
        var random = Seeded(seed: 20_261_121)
        for round in 0..<300 {
          let client = try fixture.client()
          var bytes: [UInt8] = []
          for _ in 0..<Int.random(in: 1...6, using: &random) {
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
              for _ in 0..<Int.random(in: 1...40, using: &random) {
                bytes.append(UInt8.random(in: 0...255, using: &random))
              }
            case 1:
              let count = Int.random(in: 0...200, using: &random)
              var payload: [UInt8] = []
              for _ in 0..<count { payload.append(UInt8.random(in: 0...255, using: &random)) }
              bytes += WebSocketClient.frame(
                UInt8.random(in: 0...15, using: &random), payload, isFinal: Bool.random(using: &random),
                reserved: Int.random(in: 0..<8, using: &random) == 0 ? 1 : 0)
            default:
              bytes += WebSocketClient.frame(1, Self.mutated(Self.messages.randomElement(using: &random)!, &random))
            }
          }
          try? client.send(bytes)
          try? client.send(WebSocketClient.frame(8, [0x03, 0xE8]))
          client.connection.endSending()
          _ = try client.readClose()
          if round % 50 == 49 { #expect(try fixture.client().ask(Self.request) == Self.answer) }
        }
        #expect(fixture.waits("websocket_connections", is: 0))
      }
    }

    private static let messages = [
      request, #"{"id":"a","type":"receive","payload":{"tx":["mutable://open/a",{"x":[1,2,{"y":null}]}]}}"#,
      #"{"id":[1],"type":"list","payload":{"uri":"mutable://open","options":{"page":1,"limit":2,"pattern":"a"}}}"#,
      #"{"id":null,"type":"readMulti","payload":{"uris":["mutable://open/a","mutable://open/b"]}}"#,
      #"{"id":1,"type":"observe","payload":{"uri":"mutable://open","after":"7-3e8","data":false}}"#,
      #"{"id":2,"type":"unobserve","payload":{"subscription":1}}"#, #"{"id":3,"type":"read","payload":{"uri":""}}"#,
    ]

    private static func mutated(_ text: String, _ random: inout Seeded) -> [UInt8] {
      var bytes = Array(text.utf8)
      for _ in 0..<Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(contentsOf: Array("\"{}[],:0-".utf8).shuffled(using: &random).prefix(1), at: place)
        default: bytes.replaceSubrange(place..., with: bytes[..<place])
        }
      }
      return bytes
    }
  }
}

/// The same numbers in every run.
struct Seeded: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
