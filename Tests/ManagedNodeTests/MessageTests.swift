import ManagedNode
import MessageCrypto
import MessageEncryption
import Testing

/// What was read is refused by the reference's texts, with the URI, and what is sealed can be opened.
@Suite struct ManagedMessages {
  private let vectors: ManagedVectors
  private let document: ManagedDocument

  init() throws {
    vectors = try ManagedVectors()
    document = .config(operatorKey: try vectors.operatorKey, nodeId: try vectors.nodeId)
  }

  private func refusal(_ data: [UInt8], key: X25519.KeyPair? = nil) -> String {
    do throws(ManagedMessageError) {
      _ = try document.open(data, decryptionKey: key)
      return "opened"
    } catch { return error.description }
  }

  @Test func theTextsOfRefusalsAreThoseOfTheReference() throws {
    let uri = document.uri
    #expect(document.missing.description == "Config not found at \(uri)")
    for data in ["5", "null", "\"text\"", "true"] {
      #expect(refusal(json(data)) == "Invalid config data at \(uri)", "\(data)")
    }
    for data in ["{}", "[]", #"{"auth":[]}"#, #"{"payload":1}"#, #"{"auth":{},"payload":1}"#] {
      #expect(refusal(json(data)) == "Config at \(uri) is not a signed AuthenticatedMessage", "\(data)")
    }
    let encrypted = try vectors.raw("signedEncryptedConfig")
    #expect(refusal(encrypted) == "Config at \(uri) is encrypted but no decryption key provided")
    let unsigned = "Config at \(uri) has no valid signature from operator \(try vectors.operatorKey)"
    #expect(refusal(json(#"{"auth":[],"payload":{}}"#)) == unsigned)
    let wrong = document.invalid(.rule(.init(pointer: "/name", text: "name required")))
    #expect(wrong.description == "Invalid config data at \(uri): name required")
    #expect(refusal(json("{")).hasPrefix("Invalid config data at \(uri): The JSON text ends too early"))
  }

  @Test func anotherSignatureOrAChangedPayloadIsRefused() throws {
    let payload = try json(vectors.text("configPlaintext"))
    let unsigned = "Config at \(document.uri) has no valid signature from operator \(try vectors.operatorKey)"
    #expect(try refusal(document.seal(payload, signers: [vectors.nodePair])) == unsigned)
    let sealed = try document.seal(payload, signers: [vectors.operatorPair])
    #expect(refusal(json(text(sealed).replacing("evergreen-1", with: "evergreen-2"))) == unsigned)
    // Encrypted to the node, signed by nobody that counts: it is not decrypted.
    let encrypted = try document.seal(
      payload, signers: [vectors.nodePair], encryptingTo: vectors.nodeDecryptionKey.publicKey)
    #expect(try refusal(encrypted, key: vectors.nodeDecryptionKey) == unsigned)
    // The key in other letters is another account.
    #expect(
      try refusal(json(text(sealed).replacing(vectors.operatorKey, with: vectors.operatorKey.uppercased())))
        == unsigned)
  }

  @Test func oneValidEntryByTheOperatorIsEnough() throws {
    let payload = try json(vectors.text("configPlaintext"))
    let both = try document.seal(payload, signers: [vectors.nodePair, vectors.operatorPair])
    #expect(try document.open(both).payload.bytes == payload)
    let broken = #"{"auth":[{"pubkey":"00","signature":"xx"},5,"#
    let rest = text(try document.seal(payload, signers: [vectors.operatorPair])).dropFirst(#"{"auth":["#.count)
    #expect(try document.open(json(broken + rest)).payload.bytes == payload)
  }

  @Test func whatIsEncryptedToAnotherNodeIsRefused() throws {
    let sealed = try document.seal(
      json("{}"), signers: [vectors.operatorPair], encryptingTo: X25519.KeyPair().publicKey)
    #expect(
      try refusal(sealed, key: vectors.nodeDecryptionKey)
        == "Config at \(document.uri) cannot be decrypted: Decryption failed. It is encrypted to another key, or damaged."
    )
  }

  @Test func sealingEncryptsToTheNode() throws {
    let payload = try json(vectors.text("configPlaintext"))
    let sealed = try document.seal(
      payload, signers: [vectors.operatorPair], encryptingTo: vectors.nodeDecryptionKey.publicKey)
    #expect(!text(sealed).contains("evergreen"))
    let opened = try document.open(sealed, decryptionKey: vectors.nodeDecryptionKey)
    #expect(opened.wasEncrypted && opened.payload.bytes == payload)
  }

  @Test func heartbeatsNeedTheNodesSignature() throws {
    let status = ManagedDocument.status(nodeId: try vectors.nodeId)
    let sealed = try status.seal(json("{}"), signers: [vectors.operatorPair])
    #expect {
      _ = try status.open(sealed)
    } throws: {
      let node = try vectors.nodeId
      return "\($0)" == "Status at mutable://accounts/\(node)/status has no valid signature from node \(node)"
    }
    #expect(try status.open(status.seal(json("{}"), signers: [vectors.nodePair])).payload.bytes == json("{}"))
  }

  @Test func sizesAreBounded() throws {
    let sizeBytesMax = ManagedDocument.Subject.config.sizeBytesMax
    let large = json("\"" + String(repeating: "x", count: sizeBytesMax) + "\"")
    let text = "Config at \(document.uri) is larger than \(sizeBytesMax) bytes, the most that is read or written."
    #expect(refusal(large) == text)
    #expect(throws: document.sealed(large)) { try document.seal(large, signers: [vectors.operatorPair]) }
    // Fits as it is, but not with a signature around it and base64 on top of it.
    let nearly = json("\"" + String(repeating: "x", count: sizeBytesMax - 100_000) + "\"")
    #expect(throws: document.sealed(large)) {
      try document.seal(
        nearly, signers: [vectors.operatorPair], encryptingTo: vectors.nodeDecryptionKey.publicKey)
    }
    let deep = json(String(repeating: "[", count: 200) + String(repeating: "]", count: 200))
    #expect(refusal(deep).contains("nested deeper than 128 levels"))
  }

  @Test func whatIsNoJSONOrNoKeyIsNotSealed() throws {
    #expect(throws: ManagedMessageError.self) { try document.seal(json("{"), signers: [vectors.operatorPair]) }
    #expect(throws: ManagedMessageError.self) {
      try document.seal(json("{}"), signers: [vectors.operatorPair], encryptingTo: [1, 2, 3])
    }
  }

  @Test func anAnswerToAReadIsTakenApart() {
    let answer = RecordAnswer(body: json(#"{"ts":1700000000123,"data":{"b":1.0, "a":2}}"#))
    #expect(answer?.timestampMs == 1_700_000_000_123)
    #expect(answer.map { text($0.data) } == #"{"b":1.0, "a":2}"#)
    #expect(RecordAnswer(body: json(#"{"data":1}"#)) == nil)
    #expect(RecordAnswer(body: json("nonsense")) == nil)
    #expect(RecordAnswer(body: []) == nil)
  }
}

extension ManagedDocument {
  /// The error of a message that is too large.
  fileprivate func sealed(_ large: [UInt8]) -> ManagedMessageError {
    do throws(ManagedMessageError) { _ = try open(large) } catch { return error }
    return missing
  }
}
