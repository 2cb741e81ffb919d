import B3ndSchema
import JSONText
import MessageCrypto
import PluginAPI
import PluginTestHost
import Testing
import URIText

let entry = PluginEntry(B3nd.self, id: "org.backplane.b3nd", version: "0.1.0") { B3nd.create($0, $1, $2) }

/// Runs `body` on a serving instance and then demands that it kept the boundary's manners.
func withB3nd(
  _ configuration: String = "{}", _ body: (TestHost, InMemoryNode) async throws -> Void
) async throws {
  let node = InMemoryNode()
  let host = try TestHost(entry: entry.pointer, configuration: configuration, node: node)
  try await host.start()
  try await body(host, node)
  try await host.stop()
  host.destroy()
  #expect(host.violations.isEmpty)
}

extension TestHost {
  /// Judges a message as the kernel would hand it over: with the normal form of `received`, or none.
  func judge(
    received: String, _ data: [UInt8], _ content: Content = .json, isDelete: Bool = false, depth: UInt32 = 0
  ) async throws -> Judgement {
    try await judge(
      URIText.normalise(received)?.text ?? "", data, content, uriReceived: received, isDelete: isDelete, depth: depth)
  }

  func judge(received: String, json: String, depth: UInt32 = 0) async throws -> Judgement {
    try await judge(received: received, Array(json.utf8), depth: depth)
  }
}

/// A put without a condition, as an accepted message comes back.
func stored(_ uri: String, _ json: String) -> Judgement { .accepted([.put(uri, Array(json.utf8))]) }

/// A put that must find nothing, with what the client is told otherwise.
func storedOnce(_ uri: String, _ json: String, otherwise refusal: String) -> Judgement {
  .accepted([Op(.put(data: Array(json.utf8), content: .json), uri: uri, if: .absent, otherwise: refusal)])
}

func envelope(_ outputs: [String], auth: String = "") -> String {
  "{\(auth)\"payload\":{\"inputs\":[],\"outputs\":[\(outputs.joined(separator: ","))]}}"
}

/// Signs as the peer's client does.
struct Signer {
  let pair: Ed25519.KeyPair

  init(_ number: UInt8) throws {
    let seed = [UInt8](repeating: number, count: 32)
    pair = try #require(Ed25519.KeyPair(seed: seed.withUnsafeBytes { SecretBytes(copying: $0) }))
  }

  /// In lower case.
  var key: String { pair.publicKeyHex }

  func signature(_ payload: String) throws -> String {
    let text = try Texts.signingText(payload)
    return Hexadecimal.text(text.withUnsafeBytes { pair.sign($0) })
  }

  func entry(_ payload: String) throws -> String {
    "{\"pubkey\":\"\(key)\",\"signature\":\"\(try signature(payload))\"}"
  }

  func message(_ payload: String) throws -> String { "{\"auth\":[\(try entry(payload))],\"payload\":\(payload)}" }
}

enum Texts {
  static func signingText(_ json: String) throws -> [UInt8] {
    var text: [UInt8] = []
    try Array(json.utf8).withUnsafeBytes { try CanonicalText.append($0, order: .signing, to: &text) }
    return text
  }

  static func canonicalText(_ json: [UInt8]) throws -> [UInt8] {
    var text: [UInt8] = []
    try json.withUnsafeBytes { try CanonicalText.append($0, order: .canonical, to: &text) }
    return text
  }

  /// Where a JSON value stands under `hash://`.
  static func digestURI(_ json: String) throws -> String {
    let digest = try canonicalText(Array(json.utf8)).withUnsafeBytes { SHA256.digest(of: $0) }
    return "hash://sha256/" + Hexadecimal.text(digest)
  }
}

/// What the kernel does with verdicts, in small: judges what is to be judged, checks conditions in order, and writes all
/// or nothing. Its records are those that the schema's reads see.
struct SmallNode {
  let host: TestHost
  let node: InMemoryNode

  /// Nil, or the text of the refusal.
  func receive(_ uri: String, _ json: String) async throws -> String? {
    var ops: [Op] = []
    if let refusal = try await judge(uri, Array(json.utf8), .json, depth: 0, into: &ops) { return refusal }
    var staged = node.records
    for op in ops {
      let key = try host.canonical(try #require(URIText.normalise(op.uri)).text)
      guard op.condition.holds(for: staged[key]?.version) else { return op.refusal }
      switch op.verb {
      case .put(let data, let content):
        staged[key] = Record(data: data, content: content, timestampMs: 1, version: 1)
      case .delete: staged[key] = nil
      }
    }
    node.records = staged
    return nil
  }

  private func judge(
    _ uri: String, _ data: [UInt8], _ content: Content, depth: UInt32, into ops: inout [Op]
  ) async throws -> String? {
    guard depth <= 16 else { return "nested deeper than 16" }
    switch try await host.judge(received: uri, data, content, depth: depth) {
    case .rejected(let text): return text
    case .accepted(let verdict):
      for op in verdict {
        guard op.isToJudge, case .put(let data, let content) = op.verb else {
          ops.append(op)
          continue
        }
        if let refusal = try await judge(op.uri, data, content, depth: depth + 1, into: &ops) { return refusal }
      }
      return nil
    }
  }
}

/// A generator with a seed, so that a failure can be repeated (SplitMix64).
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
