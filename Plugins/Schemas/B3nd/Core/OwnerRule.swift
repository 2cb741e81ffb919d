import JSONText
import MessageCrypto
import PluginAPI
import SchemaSupport

/// The rule of accounts: the first segment of the path is a public key, compared as text, and a message counts when at
/// least one entry of its `auth` is by that key with a valid signature over its `payload`. Reference: sections 6 and 11.
enum OwnerRule {
  static var unverified: Refusal { Refusal("Signature verification failed") }

  /// The payload of a message by the owner of `uri` (in normal form, of a program of `programCount` bytes).
  static func payload(
    of content: MessageContent, at uri: BorrowedBytes, programCount: Int
  ) throws(Refusal) -> JSONSlice {
    let value = try value(of: content)
    let message: AuthenticatedMessage?
    let isVerified: Bool
    do throws(AuthenticationError) {
      message = try AuthenticatedMessage.find(in: value)
      isVerified = try message?.verifies(by: owner(of: uri, programCount), depthMax: DigestRule.depthMax) ?? false
    } catch {
      throw Refusal("Validation error: \(error)")
    }
    guard let message, isVerified else { throw isIterable(value) ? unverified : notIterable }
    return message.payload
  }

  /// How many signatures at most `content` may ask to be verified, so that the caller can choose a thread.
  static func entryCount(of content: MessageContent) -> Int {
    guard let value = try? value(of: content), let auth = value.member("auth") else { return 0 }
    var count = 0
    for _ in auth.elements { count += 1 }
    return count
  }

  private static func value(of content: MessageContent) throws(Refusal) -> JSONSlice {
    guard content.isJSON else { throw notIterable }
    switch JSONScanner(depthMax: .max).scan(content.bytes) {
    case .success(let value):
      if value.kind == .null { throw Refusal("Cannot read properties of null (reading 'auth')") }
      return value
    case .failure(let problem): throw Refusal(problem)
    }
  }

  /// The first segment of the path; empty at the root, which nobody owns.
  private static func owner(of uri: BorrowedBytes, _ programCount: Int) -> BorrowedBytes {
    guard programCount < uri.count else { return BorrowedBytes(rebasing: uri[..<0]) }
    let path = uri[(programCount + 1)...]
    return BorrowedBytes(rebasing: path[..<(path.firstIndex(of: UInt8(ascii: "/")) ?? path.endIndex)])
  }

  // MARK: In the reference's words

  /// What JavaScript says of a value whose `auth` cannot be walked. Clients know the text.
  private static var notIterable: Refusal { Refusal("write.value.auth is not iterable") }

  /// Texts can be walked in JavaScript, as arrays can; nothing in them is a signature.
  private static func isIterable(_ value: JSONSlice) -> Bool {
    guard let auth = value.member("auth") else { return false }
    return auth.kind == .array || auth.kind == .string
  }
}
