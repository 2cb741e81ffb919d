/// Why a message by which a node is managed cannot be used. The texts of opening are the reference's.
public struct ManagedMessageError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Reason: Equatable, Sendable {
    case notFound
    /// It is no message, or what it says breaks a rule of its document.
    case invalidData(reason: String?)
    case notSigned
    case noDecryptionKey
    /// It is encrypted to somebody else, or damaged.
    case notDecrypted(reason: String)
    case noValidSignature(author: String)
    case tooLarge(limitBytes: Int)
    /// It cannot be made.
    case notSealed(reason: String)
  }

  public let subject: ManagedDocument.Subject
  public let uri: String
  public let reason: Reason

  public var description: String {
    let title = subject.title
    switch reason {
    case .notFound: return "\(title) not found at \(uri)"
    case .invalidData(nil): return "Invalid \(subject.rawValue) data at \(uri)"
    case .invalidData(let reason?): return "Invalid \(subject.rawValue) data at \(uri): \(reason)"
    case .notSigned: return "\(title) at \(uri) is not a signed AuthenticatedMessage"
    case .noDecryptionKey: return "\(title) at \(uri) is encrypted but no decryption key provided"
    case .notDecrypted(let reason):
      return "\(title) at \(uri) cannot be decrypted: \(reason). It is encrypted to another key, or damaged."
    case .noValidSignature(let author):
      return "\(title) at \(uri) has no valid signature from \(isByNode ? "node" : "operator") \(author)"
    case .tooLarge(let limitBytes):
      return "\(title) at \(uri) is larger than \(limitBytes) bytes, the most that is read or written."
    case .notSealed(let reason): return "\(title) for \(uri) cannot be signed or encrypted: \(reason)"
    }
  }

  private var isByNode: Bool { subject == .status || subject == .metrics }
}
