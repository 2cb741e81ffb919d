import JSONText

/// A value that says who stands behind it: `{"auth":[{"pubkey":hex,"signature":hex},…],"payload":any}`.
///
/// The signatures are over the UTF-8 of what JavaScript's JSON.stringify would print for the payload
/// (`CanonicalText.signing`). Borrows from the text it was found in.
public struct AuthenticatedMessage {
  /// The most entries of one message, unless the caller says otherwise.
  public static let entriesMax = 256
  /// The most bytes that are hashed to verify one message. Every entry may ask for a pass over the payload, so a short
  /// list under a large payload would otherwise take seconds. The first entry that counts is always tried.
  public static let hashedSizeBytesMax = 64 << 20

  /// The array of entries, as written.
  public let auth: JSONSlice
  public let payload: JSONSlice
  /// From 0 to the most that is allowed.
  public let entryCount: Int

  /// The authenticated message that `value` is; nil when it is no object with an array `auth` and a `payload`. Entries
  /// are not looked at, and of duplicate members the last counts. Walks `value` without a copy.
  public static func find(
    in value: JSONSlice, entriesMax: Int = entriesMax
  ) throws(AuthenticationError) -> AuthenticatedMessage? {
    guard value.kind == .object else { return nil }
    var auth: JSONSlice?
    var payload: JSONSlice?
    for (key, value) in value.members {
      if key.isText("auth") { auth = value } else if key.isText("payload") { payload = value }
    }
    guard let auth, auth.kind == .array, let payload else { return nil }
    var count = 0
    for _ in auth.elements {
      count += 1
      if count > entriesMax { throw .tooManyEntries(limit: entriesMax) }
    }
    return AuthenticatedMessage(auth: auth, payload: payload, entryCount: count)
  }

  /// The entries in order. Each use walks the array anew.
  public var entries: some Sequence<AuthenticationEntry> {
    auth.elements.lazy.map { AuthenticationEntry($0) }
  }
}

/// One entry of `auth`. Borrows from the message's text.
public struct AuthenticationEntry {
  /// Nil when there is none, or it is no string.
  public let pubkey: JSONSlice?
  /// Nil when there is none, or it is no string.
  public let signature: JSONSlice?

  init(_ entry: JSONSlice) {
    var pubkey: JSONSlice?
    var signature: JSONSlice?
    for (key, value) in entry.members {
      if key.isText("pubkey") { pubkey = value } else if key.isText("signature") { signature = value }
    }
    self.pubkey = pubkey?.kind == .string ? pubkey : nil
    self.signature = signature?.kind == .string ? signature : nil
  }
}

/// Why a message cannot be judged. A signature that is wrong is no error.
public enum AuthenticationError: Error, Equatable, Sendable, CustomStringConvertible {
  case tooManyEntries(limit: Int)
  /// Entries and payload together ask for too much hashing.
  case tooMuchToVerify(limitBytes: Int)
  /// The payload cannot be printed for signing: it is nested too deep, for example. Offsets count from its start.
  case payload(JSONError)

  /// One sentence for the person who sent the message.
  public var description: String {
    switch self {
    case .tooManyEntries(let limit):
      return "The message has more than \(limit) entries in auth, the most that are verified: leave some out."
    case .tooMuchToVerify(let limitBytes):
      return
        "The message's signatures and payload together ask for more than \(limitBytes) bytes to be hashed, the most "
        + "that are: sign with fewer keys, or sign the payload's digest."
    case .payload(let error): return "The payload cannot be verified: \(error)"
    }
  }
}
