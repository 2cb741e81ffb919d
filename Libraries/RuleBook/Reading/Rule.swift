/// One thing that a program demands.
indirect enum Rule: Sendable {
  /// Nothing.
  case allow
  /// Refuses everything, with this text.
  case deny(String)
  /// The record must not exist; what the client is told when it does.
  case writeOnce(String)
  case content(isJSON: Bool)
  case sizeBytesMax(Int)
  case uriPattern(TextPattern)
  case jsonSchema(JSONSchema, name: String?)
  case signedBy(Signers)
  case requiresOutput(RequiredOutput)
  /// At least one of them must hold.
  case any([PlacedRule])
  /// All of them must hold.
  case all([PlacedRule])
}

/// Who must have signed a message.
enum Signers: Sendable {
  /// The key that is the first segment of the path.
  case owner
  /// One of these keys is enough; 32 bytes each.
  case any([[UInt8]])
  case all([[UInt8]])
}

/// What one of an envelope's outputs must be, a fee for example.
struct RequiredOutput: Sendable {
  /// Over the normal form of the output's URI.
  var uriPattern: TextPattern
  /// The output's value is a number, and not below this.
  var numberMin: Double?
  var schema: JSONSchema?
}

/// A rule and where it stands.
struct PlacedRule: Sendable {
  var rule: Rule
  /// Its key: `json_schema`.
  var word: String
  /// Into the rules file.
  var pointer: String
  /// What the client is told when it does not hold, in place of the rule's own words.
  var otherwise: String?

  /// Judging it may take longer than an event loop should wait.
  var isSlow: Bool {
    switch rule {
    case .uriPattern, .jsonSchema, .requiresOutput: true
    case .any(let rules), .all(let rules): rules.contains(where: \.isSlow)
    default: false
    }
  }

  var hasSignatures: Bool {
    switch rule {
    case .signedBy: true
    case .any(let rules), .all(let rules): rules.contains(where: \.hasSignatures)
    default: false
    }
  }
}

/// What one program demands.
struct ProgramRules: Sendable {
  /// `mutable://open`; `*` for all that are not named.
  var key: String
  /// All of them must hold.
  var rules: [PlacedRule]
  var allowsDeletes: Bool
}
