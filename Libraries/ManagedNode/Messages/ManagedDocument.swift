import JSONText
import MessageCrypto
import MessageEncryption

/// One of the documents by which a node is managed: where it is, and whose signature it needs. Any thread.
///
/// It is kept as an authenticated message, whose payload may be encrypted. What is opened here was written by anybody:
/// every bound holds before a signature is looked at, and nothing is decrypted that the author did not sign.
public struct ManagedDocument: Equatable, Sendable {
  public enum Subject: String, Sendable {
    case config, update, status, metrics, network

    /// The most bytes of a message that is opened or sealed.
    public var sizeBytesMax: Int { self == .network ? 8 << 20 : 1 << 20 }

    /// At the start of a sentence.
    var title: String {
      switch self {
      case .config: "Config"
      case .update: "Update"
      case .status: "Status"
      case .metrics: "Metrics"
      case .network: "Network"
      }
    }
  }

  public let subject: Subject
  public let uri: String
  /// The public key that must have signed, in hexadecimal.
  public let author: String

  public static func config(operatorKey: String, nodeId: String) -> ManagedDocument {
    ManagedDocument(
      subject: .config, uri: ManagementURIs.config(operatorKey: operatorKey, nodeId: nodeId), author: operatorKey)
  }

  public static func update(operatorKey: String, nodeId: String) -> ManagedDocument {
    ManagedDocument(
      subject: .update, uri: ManagementURIs.update(operatorKey: operatorKey, nodeId: nodeId), author: operatorKey)
  }

  public static func status(nodeId: String) -> ManagedDocument {
    ManagedDocument(subject: .status, uri: ManagementURIs.status(nodeId: nodeId), author: nodeId)
  }

  public static func metrics(nodeId: String) -> ManagedDocument {
    ManagedDocument(subject: .metrics, uri: ManagementURIs.metrics(nodeId: nodeId), author: nodeId)
  }

  public static func network(operatorKey: String, networkId: String) -> ManagedDocument {
    ManagedDocument(
      subject: .network, uri: ManagementURIs.network(operatorKey: operatorKey, networkId: networkId),
      author: operatorKey)
  }

  /// Most arrays and objects open at once in a message.
  static let depthMax = 128

  // MARK: - Opening

  /// What a message says.
  public struct Opened: Equatable, Sendable {
    /// The payload as its author wrote it, decrypted if need be.
    public let payload: RawJSON
    public let wasEncrypted: Bool
  }

  /// There is no record at the URI.
  public var missing: ManagedMessageError { refusal(.notFound) }

  /// Opens what was read at the URI: the record's data, JSON as it came.
  /// - Parameter decryptionKey: nil when there is none; an encrypted message is then refused.
  public func open(
    _ data: [UInt8], decryptionKey: X25519.KeyPair? = nil
  ) throws(ManagedMessageError) -> Opened {
    guard data.count <= subject.sizeBytesMax else { throw refusal(.tooLarge(limitBytes: subject.sizeBytesMax)) }
    let outcome = data.withUnsafeBytes { bytes -> Result<Opened, ManagedMessageError> in
      do throws(ManagedMessageError) {
        switch JSONScanner(depthMax: Self.depthMax).scan(bytes) {
        case .success(let value): return .success(try open(value, decryptionKey))
        case .failure(let error): throw refusal(.invalidData(reason: "\(error)"))
        }
      } catch { return .failure(error) }
    }
    return try outcome.get()
  }

  private func open(
    _ value: JSONSlice, _ decryptionKey: X25519.KeyPair?
  ) throws(ManagedMessageError) -> Opened {
    guard value.kind == .object || value.kind == .array else { throw refusal(.invalidData(reason: nil)) }
    let found: AuthenticatedMessage?
    do throws(AuthenticationError) {
      found = try AuthenticatedMessage.find(in: value)
    } catch { throw refusal(.invalidData(reason: "\(error)")) }
    guard let message = found else { throw refusal(.notSigned) }
    let isEncrypted = EncryptedPayload.isEncrypted(message.payload)
    if isEncrypted, decryptionKey == nil { throw refusal(.noDecryptionKey) }
    try verify(message)
    guard isEncrypted, let decryptionKey else {
      return Opened(payload: RawJSON(message.payload), wasEncrypted: false)
    }
    return Opened(payload: try decrypt(message.payload, decryptionKey), wasEncrypted: true)
  }

  private func decrypt(_ payload: JSONSlice, _ key: X25519.KeyPair) throws(ManagedMessageError) -> RawJSON {
    let text: [UInt8]
    do throws(EncryptionError) {
      text = try EncryptedPayload(payload).decrypt(with: key)
    } catch { throw refusal(.notDecrypted(reason: "\(error)")) }
    guard let value = RawJSON(text, depthMax: Self.depthMax) else {
      throw refusal(.invalidData(reason: "what was encrypted is not JSON"))
    }
    return value
  }

  /// Any one valid entry by the author is enough; other entries do not matter.
  private func verify(_ message: AuthenticatedMessage) throws(ManagedMessageError) {
    do {
      var author = author
      let isByAuthor = try author.withUTF8 { key in try message.verifies(by: key, depthMax: Self.depthMax) }
      if isByAuthor { return }
    } catch {
      throw refusal(.invalidData(reason: "\(error)"))
    }
    throw refusal(.noValidSignature(author: author))
  }

  /// The error that the document's own rule stands for.
  public func invalid(_ error: DocumentError) -> ManagedMessageError {
    refusal(.invalidData(reason: error.description))
  }

  func refusal(_ reason: ManagedMessageError.Reason) -> ManagedMessageError {
    ManagedMessageError(subject: subject, uri: uri, reason: reason)
  }

  // MARK: - Sealing

  /// The message that says `payload` (JSON), signed by `signers`, at least one, byte for byte as the reference prints it.
  /// - Parameter recipient: an X25519 public key (32 bytes) that it is encrypted to first; nil: it is not encrypted.
  public func seal(
    _ payload: [UInt8], signers: [Ed25519.KeyPair], encryptingTo recipient: [UInt8]? = nil
  ) throws(ManagedMessageError) -> [UInt8] {
    guard payload.count <= subject.sizeBytesMax else { throw refusal(.tooLarge(limitBytes: subject.sizeBytesMax)) }
    guard let payload = RawJSON(payload, depthMax: Self.depthMax) else {
      throw refusal(.notSealed(reason: "the payload is not JSON"))
    }
    var sealed: [UInt8] = []
    do {
      try payload.withSlice { payload in
        guard let recipient else {
          return try AuthenticatedMessage.append(payload: payload, signers: signers, to: &sealed)
        }
        let text = try CanonicalText.signing(payload, depthMax: Self.depthMax)
        let encrypted = try text.withUnsafeBytes { text in
          try recipient.withUnsafeBytes { try EncryptedPayload.encrypt(text, to: $0) }
        }
        SignedEncryptedMessage.append(encrypted, signers: signers, to: &sealed)
      }
    } catch {
      throw refusal(.notSealed(reason: "\(error)"))
    }
    // What nobody would open is not sent.
    guard sealed.count <= subject.sizeBytesMax else { throw refusal(.tooLarge(limitBytes: subject.sizeBytesMax)) }
    return sealed
  }
}
