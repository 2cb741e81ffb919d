/// What a program demands of its messages. The digest of what stands under `hash://` is checked besides, whatever the
/// rule.
enum Rule: String, CaseIterable, Sendable {
  /// Everything is accepted.
  case open
  /// A record is written once.
  case writeOnce = "write-once"
  /// A record is written once, under its digest; the program's URIs are `hash://sha256/<digest>`.
  case hash
  /// Signed by the key that is the first segment of the path.
  case account
  /// Signed likewise, and written once.
  case writeOnceAccount = "write-once-account"
  /// The text of a URI.
  case link
  /// The text of a URI, signed as `account`.
  case accountLink = "account-link"

  /// Whether a record can be written over.
  var isWriteOnce: Bool { self == .writeOnce || self == .hash || self == .writeOnceAccount }

  /// Whether only its owner writes a record.
  var hasOwner: Bool { self == .account || self == .writeOnceAccount || self == .accountLink }

  /// Of the reference's example schema, in the order of its list.
  static let builtIn: [(program: String, rule: Rule)] = [
    ("mutable://open", .open), ("mutable://inbox", .open), ("immutable://inbox", .open),
    ("mutable://accounts", .account), ("immutable://open", .writeOnce),
    ("immutable://accounts", .writeOnceAccount), ("hash://sha256", .hash), ("link://accounts", .accountLink),
    ("link://open", .link),
  ]
}
