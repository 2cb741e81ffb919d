import PluginAPI
import PluginTestHost
import Testing
import URIText

/// Whatever comes is judged, and what a verdict says holds together.
@Suite struct FuzzTests {
  private static let pieces: [String] = [
    "{", "}", "[", "]", ",", ":", "\"", "payload", "\"payload\":", "\"inputs\":[]", "\"outputs\":[", "\\u0070",
    "\\", "\\ud800", "mutable://open/a", "hash://sha256/", "HASH:", "1e400", "null", "__b3nd_binary__", "\"encoding\"",
    "base64", "\u{FEFF}", " ", "\t", "é", "true",
  ]
  private static let uris = [
    "mutable://open/a", "nonsense", "hash://sha256/ab", "hash://md5/x", "", "HASH://sha256", "hash:", "m://o",
    "hash://sha256/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "link://open/%zz",
  ]

  private static func value(_ generator: inout SeededGenerator, depth: Int) -> String {
    switch Int.random(in: 0..<(depth > 3 ? 5 : 9), using: &generator) {
    case 0: return "1"
    case 1: return "\"\(uris.randomElement(using: &generator)!)\""
    case 2: return #"{"__b3nd_binary__":true,"encoding":"base64","data":"e\u0041=="}"#
    case 3: return "{}"
    case 4: return #"{"payload":{"inputs":[],"outputs":{}}}"#
    default:
      let outputs = (0..<Int.random(in: 0...3, using: &generator)).map { _ in
        "[\"\(uris.randomElement(using: &generator)!)\",\(value(&generator, depth: depth + 1))]"
      }
      return #"{"payload":{"inputs":[],"outputs":["# + outputs.joined(separator: ",") + "]}}"
    }
  }

  @Test(arguments: 1...4) func messages(_ seed: UInt64) async throws {
    try await withPermissive { (host: TestHost) async throws in
      var generator = SeededGenerator(seed: seed)
      var accepted = 0
      for _ in 0..<2_000 {
        var data: [UInt8]
        switch Int.random(in: 0..<3, using: &generator) {
        case 0:
          let count = Int.random(in: 0...20, using: &generator)
          data = (0..<count).flatMap { _ in Array(Self.pieces.randomElement(using: &generator)!.utf8) }
        default:
          data = Array(Self.value(&generator, depth: 0).utf8)
        }
        // Damage every third.
        if !data.isEmpty, Int.random(in: 0..<3, using: &generator) == 0 {
          data[Int.random(in: 0..<data.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
        }
        let uri = Self.uris.randomElement(using: &generator)!
        let content = Bool.random(using: &generator) ? Content.json : .bytes
        switch try await host.judge(received: uri, data, content, depth: UInt32.random(in: 0...2, using: &generator)) {
        case .rejected(let text): #expect(!text.isEmpty)
        case .accepted(let ops):
          accepted += 1
          #expect(ops.first == .put(try #require(URIText.normalise(uri)).text, data, content))
          for op in ops.dropFirst() { #expect(op.isToJudge && URIText.normalise(op.uri) != nil) }
        }
      }
      #expect(accepted > 100)
    }
  }
}
