import PermissiveSchema
import PluginAPI
import PluginTestHost
import Testing
import URIText

let entry = PluginEntry(Permissive.self, id: "org.backplane.permissive", version: "0.1.0") {
  Permissive.create($0, $1, $2)
}

/// Runs `body` on a serving instance and then demands that it kept the boundary's manners.
func withPermissive(_ body: (TestHost) async throws -> Void) async throws {
  let host = try TestHost(entry: entry.pointer)
  try await host.start()
  try await body(host)
  try await host.stop()
  host.destroy()
  #expect(host.violations.isEmpty)
}

extension TestHost {
  /// Judges a message as the kernel would hand it over: with the normal form of `received`, or none.
  func judge(received: String, _ data: [UInt8], _ content: Content = .json, depth: UInt32 = 0) async throws -> Judgement
  {
    try await judge(URIText.normalise(received)?.text ?? "", data, content, uriReceived: received, depth: depth)
  }

  func judge(received: String, json: String, depth: UInt32 = 0) async throws -> Judgement {
    try await judge(received: received, Array(json.utf8), depth: depth)
  }
}

/// What the kernel does with verdicts, in small: judges what is to be judged, and writes all or nothing.
final class SmallNode {
  private let host: TestHost
  private(set) var records: [String: Record] = [:]

  init(_ host: TestHost) { self.host = host }

  /// Nil, or the text of the refusal.
  func receive(_ uri: String, _ data: [UInt8], _ content: Content) async throws -> String? {
    var staged = records
    if let refusal = try await judge(uri, data, content, depth: 0, into: &staged) { return refusal }
    records = staged
    return nil
  }

  func key(_ uri: String) throws -> String {
    let normalised = try #require(URIText.normalise(uri))
    return try host.canonical(normalised.text)
  }

  private func judge(
    _ uri: String, _ data: [UInt8], _ content: Content, depth: UInt32, into staged: inout [String: Record]
  ) async throws -> String? {
    guard depth <= 16 else { return "nested deeper than 16 verdicts" }
    let ops: [Op]
    switch try await host.judge(received: uri, data, content, depth: depth) {
    case .rejected(let text): return text
    case .accepted(let accepted): ops = accepted
    }
    for op in ops {
      guard case .put(let data, let content) = op.verb else { return "a verdict deletes" }
      if op.isToJudge {
        if let refusal = try await judge(op.uri, data, content, depth: depth + 1, into: &staged) { return refusal }
      } else {
        staged[try key(op.uri)] = Record(data: data, content: content, timestampMs: 1, version: 1)
      }
    }
    return nil
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
