import MessageCrypto
import PluginAPI
import Testing

@testable import RuleBook

/// A rules file as JSON.
func book(_ programs: String, _ rest: String = "") throws -> RuleBook {
  try RuleBook(try RuleValue.parse(Array(#"{"version":1,\#(rest)"programs":\#(programs)}"#.utf8)))
}

/// What is wrong with a rules file, as `pointer: message` lines.
func problems(_ json: String) -> [String] {
  do throws(ConfigurationErrors) {
    _ = try RuleBook(try RuleValue.parse(Array(json.utf8)))
    return []
  } catch {
    return error.problems.map(\.description)
  }
}

/// An owned message.
struct Sent {
  var uri: String
  var data: [UInt8]
  var isJSON = true
  var isDelete = false
  var depth = 0

  init(_ uri: String, _ json: String) {
    self.uri = uri
    data = Array(json.utf8)
  }
}

enum Answer: Equatable {
  case accepted(unless: String?, isEnvelope: Bool)
  case refused(String)

  static let plain = Answer.accepted(unless: nil, isEnvelope: false)
}

extension RuleBook {
  func answer(_ sent: Sent, explain: ((RuleStep) -> Void)? = nil) -> Answer {
    with(sent) { message in
      switch judge(message, explain: explain) {
      case .accepted(let envelope, let unless): .accepted(unless: unless, isEnvelope: envelope != nil)
      case .refused(let text, _): .refused(text)
      }
    }
  }

  func answer(_ uri: String, _ json: String) -> Answer { answer(Sent(uri, json)) }

  func with<R>(_ sent: Sent, _ body: (RuleMessage) -> R) -> R {
    RuleMessage.with(
      uri: sent.uri, data: sent.data, isJSON: sent.isJSON, isDelete: sent.isDelete, depth: sent.depth, body)
  }
}

/// A key for tests, from a seed of one repeated byte.
func keyPair(_ byte: UInt8) throws -> Ed25519.KeyPair {
  let seed = [UInt8](repeating: byte, count: Ed25519.seedSizeBytes)
  return try #require(Ed25519.KeyPair(seed: seed.withUnsafeBytes { SecretBytes(copying: $0) }))
}

/// `{"auth":[…],"payload":…}` signed by each key.
func signed(_ payload: String, by keys: [Ed25519.KeyPair]) -> String {
  // A payload without white space and with its keys in place is its own signing text.
  let entries = keys.map { key in
    let signature = Array(payload.utf8).withUnsafeBytes { key.sign($0) }
    return #"{"pubkey":"\#(key.publicKeyHex)","signature":"\#(Hexadecimal.text(signature))"}"#
  }
  return #"{"auth":[\#(entries.joined(separator: ","))],"payload":\#(payload)}"#
}

func envelope(_ outputs: String) -> String { #"{"payload":{"inputs":[],"outputs":[\#(outputs)]}}"# }

/// SplitMix64, so that a failure can be repeated.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
