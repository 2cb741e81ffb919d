import Foundation
import Testing

@testable import JSONText

@Suite struct NodeVectors {
  @Test func canonical() throws {
    let vectors = try Shared.vectors("canonical")
    #expect(vectors.count == 20)
    for vector in vectors {
      let json = try #require(vector["json"] as? String)
      #expect(try ordered(json, .canonical) == vector["canonical"] as? String, "\(vector["name"] ?? "")")
    }
  }

  @Test func signingText() throws {
    let vectors = try Shared.vectors("signingText")
    #expect(vectors.count == 8)
    for vector in vectors {
      let json = try #require(vector["json"] as? String)
      #expect(try ordered(json, .signing) == vector["text"] as? String, "\(vector["name"] ?? "")")
    }
  }

  @Test func messageData() throws {
    let vectors = try Shared.vectors("isMessageData")
    #expect(vectors.count == 19)
    for vector in vectors {
      let json = try #require(vector["json"] as? String)
      let isEnvelope = try withValue(json) { MessageEnvelope.find(in: $0) != nil }
      #expect(isEnvelope == vector["isMessageData"] as? Bool, "\(json)")
    }
  }

  @Test func base64Bytes() throws {
    let vectors = try Shared.vectors("bytes")
    #expect(vectors.count == 4)
    for vector in vectors {
      let hex = Array(try #require(vector["hex"] as? String))
      let bytes = stride(from: 0, to: hex.count, by: 2).compactMap { UInt8(String(hex[$0...($0 + 1)]), radix: 16) }
      var encoded: [UInt8] = []
      bytes.withUnsafeBytes { Base64.encode($0, into: &encoded) }
      #expect(String(decoding: encoded, as: UTF8.self) == vector["base64"] as? String)
      var decoded: [UInt8] = []
      encoded.withUnsafeBytes { Base64.decodeLeniently($0, into: &decoded) }
      #expect(decoded == bytes)
    }
  }

  /// Every receive exchange recorded on the node whose answer the body alone decides.
  @Test func recordedReceiveBodies() throws {
    let whole = try JSONSerialization.jsonObject(with: Data(try Shared.file("b3nd-http.json"))) as? [String: Any]
    let exchanges = try #require(whole?["exchanges"] as? [[String: Any]])
    var checked = 0
    for exchange in exchanges where exchange["path"] as? String == "/api/v1/receive" {
      let body: [UInt8]
      if let raw = exchange["raw"] as? String {
        body = Array(raw.utf8)
      } else if let json = exchange["json"] {
        body = [UInt8](try JSONSerialization.data(withJSONObject: json))
      } else {
        continue
      }
      let answer = (exchange["response"] as? [String: Any])?["text"] as? String ?? ""
      let text: String? = body.withUnsafeBytes {
        if case .failure(let rejection) = JSONScanner().scanMessage($0) { return rejection.text }
        return nil
      }
      let bodyTexts = [ReceiveRejection.notAMessage.text, ReceiveRejection.uriRequired.text]
      let expected = bodyTexts.first { answer.contains($0) }
      #expect(text == expected, "exchange \(exchange["n"] ?? "?")")
      checked += 1
    }
    #expect(checked > 50)
  }
}
