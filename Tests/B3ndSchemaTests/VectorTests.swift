import Foundation
import PluginAPI
import PluginTestHost
import VectorTesting
import Testing

/// What was recorded on the reference.
@Suite struct VectorTests {
  private static func accepted(_ judgement: Judgement) -> Bool {
    if case .accepted = judgement { return true }
    return false
  }

  /// As the reference's client would send it: JSONSerialization changes numbers, so texts are kept where there are any.
  private static func text(_ value: Any) throws -> String {
    String(
      decoding: try JSONSerialization.data(
        withJSONObject: value, options: [.fragmentsAllowed, .withoutEscapingSlashes]),
      as: UTF8.self)
  }

  @Test func hashChecks() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      var checked = 0
      for vector in try SharedVectors.list("hashChecks") {
        let uri = try #require(vector["uri"] as? String)
        let json = try #require(vector["json"] as? String)
        // The function was recorded with URIs that are not its business; the node does not ask it about them.
        guard uri.lowercased().hasPrefix("hash:") else { continue }
        checked += 1
        let judgement = try await host.judge(received: uri, json: json)
        if vector["valid"] as? Bool == true {
          #expect(Self.accepted(judgement), "\(uri)")
        } else {
          let error = try #require(vector["error"] as? String)
          #expect(judgement == .rejected(error), "\(uri)")
        }
      }
      #expect(checked == 11)
    }
  }

  @Test func canonicalValuesStandUnderTheirDigestAlone() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for vector in try SharedVectors.list("canonical") {
        let json = try #require(vector["json"] as? String)
        let uri = try #require(vector["uri"] as? String)
        #expect(Self.accepted(try await host.judge(received: uri, json: json)), "\(vector["name"] ?? "")")
        let wrong = String(uri.dropLast()) + (uri.last == "0" ? "1" : "0")
        #expect(try await host.judge(received: wrong, json: json) == .rejected("Content hash mismatch"))
      }
      for vector in try SharedVectors.list("bytes") {
        let base64 = try #require(vector["base64"] as? String)
        let bytes = [UInt8](try #require(Data(base64Encoded: base64)))
        let uri = try #require(vector["uri"] as? String)
        #expect(Self.accepted(try await host.judge(received: uri, bytes, .bytes)))
      }
    }
  }

  @Test func envelopesStandUnderTheirOwnDigestAlone() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for vector in try SharedVectors.list("envelopes") {
        let json = try Self.text(#require(vector["data"]))
        let uri = try #require(vector["uri"] as? String)
        #expect(Self.accepted(try await host.judge(received: uri, json: json)), "\(uri)")
        let wrong = "hash://sha256/" + String(repeating: "1", count: 64)
        #expect(try await host.judge(received: wrong, json: json) == .rejected("Content hash mismatch"))
      }
    }
  }

  @Test func whatAnEnvelopeIs() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for vector in try SharedVectors.list("isMessageData") {
        let json = try #require(vector["json"] as? String)
        let isEnvelope = try #require(vector["isMessageData"] as? Bool)
        let expected = isEnvelope ? "Invalid envelope URI format" : "Invalid URI format"
        #expect(try await host.judge(received: "nonsense", json: json) == .rejected(expected), "\(json)")
      }
    }
  }

  @Test func authenticatedMessages() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for vector in try SharedVectors.list("authenticated") {
        let message = try #require(vector["message"] as? [String: Any])
        for entry in try #require(message["auth"] as? [[String: String]]) {
          // The order of its payload's names is what is signed; JSONSerialization has lost it.
          let json =
            #"{"auth":\#(try Self.text(message["auth"]!)),"payload":{"9":1.5,"10":0,"b":1,"a":[true,null,"é😀"]}}"#
          let key = try #require(entry["pubkey"])
          #expect(Self.accepted(try await host.judge(received: "mutable://accounts/\(key)/x", json: json)))
        }
      }
      for vector in try SharedVectors.list("signedEncrypted") {
        let text = try #require(vector["signedText"] as? String)
        let message = try #require(vector["message"] as? [String: Any])
        let auth = try #require(message["auth"] as? [[String: String]])
        let json = #"{"auth":\#(try Self.text(auth)),"payload":\#(text)}"#
        let key = try #require(auth.first?["pubkey"])
        #expect(Self.accepted(try await host.judge(received: "mutable://accounts/\(key)", json: json)))
      }
    }
  }

  @Test func signatures() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for vector in try SharedVectors.list("ed25519") {
        let key = try #require(vector["publicKeyHex"] as? String)
        let signature = try #require(vector["signature"] as? String)
        let payload = try #require(vector["payloadJson"] as? String)
        let json = #"{"auth":[{"pubkey":"\#(key)","signature":"\#(signature)"}],"payload":\#(payload)}"#
        #expect(Self.accepted(try await host.judge(received: "mutable://accounts/\(key)/x", json: json)), "\(payload)")
      }
    }
  }

  @Test func verifyCases() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for vector in try SharedVectors.list("verifyCases") {
        let key = try #require(vector["publicKeyHex"] as? String)
        let signature = try #require(vector["signature"] as? String)
        let payload = try #require(vector["payloadJson"] as? String)
        let json = #"{"auth":[{"pubkey":"\#(key)","signature":"\#(signature)"}],"payload":\#(payload)}"#
        let judgement = try await host.judge(received: "mutable://accounts/\(key)/x", json: json)
        let name = vector["name"] as? String ?? ""
        if vector["valid"] as? Bool == true {
          #expect(Self.accepted(judgement), "\(name)")
        } else {
          #expect(judgement == .rejected("Signature verification failed"), "\(name)")
        }
      }
    }
  }
}
