import ComposeText
import JSONText
import ManagedNode
import MessageCrypto

/// Brings the configurations of a network and its manifest to the config server: signed by the operator, and encrypted where
/// a node has a key for that. What is there already is left alone.
struct NetworkPublisher: Sendable {
  /// What became of one document.
  struct Outcome: Sendable {
    enum Change: Sendable, Equatable {
      case created
      /// The members of the document that are others now; empty: it cannot be told which.
      case changed([String])
      case unchanged
      case failed(String, ExitStatus)
    }

    /// The node's name; nil: the manifest.
    var node: String?
    var uri: String
    var change: Change
    var isEncrypted: Bool

    var isFailure: Bool { if case .failed = change { true } else { false } }
  }

  let file: NetworkFile
  let server: DocumentClient

  /// Every document's outcome, the manifest's last. Throws when the operator's key is missing, or nobody answers.
  func publish() async throws -> [Outcome] {
    let keys = try file.operatorKeys()
    let operatorKey = keys.signing.publicKeyHex
    var outcomes: [Outcome] = []
    for node in file.manifest.nodes {
      let document = ManagedDocument.config(operatorKey: operatorKey, nodeId: node.nodeId)
      // With the node's own key here it can be seen whether an encrypted configuration is still the same.
      let recipient = try node.encryptionKey()
      let reader = recipient == nil ? nil : try file.keys.encryption(ServiceName.make(node.name))
      outcomes.append(
        try await publish(
          document, node.rawConfiguration, node: node.name, recipient: recipient, reader: reader,
          signer: keys.signing))
    }
    // It has every configuration in it, so it is as secret as they are.
    let recipient = file.isEncrypted ? keys.encryption : nil
    guard !file.isEncrypted || recipient != nil else {
      throw CommandFailure(
        .usage,
        "the manifest holds encrypted configurations and must be encrypted to the operator, whose key is not in "
          + "\(file.keys.path(NetworkKeys.operatorName, .encryption)).")
    }
    guard let manifest = RawJSON(file.document) else { preconditionFailure("the manifest was read as JSON") }
    outcomes.append(
      try await publish(
        .network(operatorKey: operatorKey, networkId: file.manifest.networkId), manifest, node: nil,
        recipient: recipient?.publicKey, reader: recipient, signer: keys.signing))
    return outcomes
  }

  private func publish(
    _ document: ManagedDocument, _ payload: RawJSON, node: String?, recipient: [UInt8]?, reader: X25519.KeyPair?,
    signer: Ed25519.KeyPair
  ) async throws -> Outcome {
    var outcome = Outcome(node: node, uri: document.uri, change: .unchanged, isEncrypted: recipient != nil)
    do {
      let present = try await server.read(document)
      if let present {
        let opened = try? document.open(present.data, decryptionKey: reader)
        if let opened, opened.wasEncrypted == outcome.isEncrypted, Self.isSame(opened.payload, payload) {
          return outcome
        }
        outcome.change = .changed(opened.map { Self.differences($0.payload, payload) } ?? [])
      } else {
        outcome.change = .created
      }
      let message = try document.seal(payload.bytes, signers: [signer], encryptingTo: recipient)
      _ = try await server.publish(message, at: document)
    } catch let failure as CommandFailure {
      // Nobody answers for the others either.
      if failure.status == .unavailable { throw failure }
      outcome.change = .failed(failure.message, failure.status)
    } catch {
      outcome.change = .failed("\(error)", .refused)
    }
    return outcome
  }

  private static func isSame(_ left: RawJSON, _ right: RawJSON) -> Bool {
    guard let text = signedText(left) else { return false }
    return text == signedText(right)
  }

  /// As a signature sees it: order counts, white space does not.
  private static func signedText(_ value: RawJSON) -> [UInt8]? {
    value.withSlice { try? CanonicalText.signing($0) }
  }

  /// The names of the members that differ.
  private static func differences(_ old: RawJSON, _ new: RawJSON) -> [String] {
    let (old, new) = (members(old), members(new))
    return (new.map(\.name) + old.map(\.name).filter { name in !new.contains { $0.name == name } }).filter { name in
      old.last { $0.name == name }?.text != new.last { $0.name == name }?.text
    }
  }

  private static func members(_ value: RawJSON) -> [(name: String, text: [UInt8])] {
    value.withSlice { value in
      guard value.kind == .object else { return [] }
      return value.members.map { member in
        (member.key.text ?? "", (try? CanonicalText.signing(member.value)) ?? Array(member.value.bytes))
      }
    }
  }
}

extension NetworkPublisher.Outcome {
  /// For a person.
  var words: String {
    switch change {
    case .created: "created"
    case .changed(let members) where members.isEmpty: "changed"
    case .changed(let members): "changed: \(members.joined(separator: ", "))"
    case .unchanged: "unchanged"
    case .failed(let message, _): "failed: \(message)"
    }
  }

  var json: JSONValue {
    var members: [String: JSONValue] = [
      "uri": .string(uri), "encrypted": .bool(isEncrypted), "node": node.map { .string($0) } ?? .null,
    ]
    switch change {
    case .created: members["result"] = .string("created")
    case .changed(let names):
      members["result"] = .string("changed")
      members["changed"] = .array(names.map { .string($0) })
    case .unchanged: members["result"] = .string("unchanged")
    case .failed(let message, _):
      members["result"] = .string("failed")
      members["error"] = .string(message)
    }
    return .object(members)
  }
}
