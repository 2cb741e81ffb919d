import Foundation
import PluginAPI
import Testing

/// Seeded, so that a failure repeats.
@Suite struct ConfigurationFuzzTests {
  private static let words = ["port", "prot", "a/b", "m~n", "é", "", "list", "\u{1F600}\n\"\\", "0"]

  private func tree(_ generator: inout SeededGenerator, depth: Int = 0) -> Tree {
    switch Int.random(in: 0..<(depth < 5 ? 8 : 5), using: &generator) {
    case 0: return .null
    case 1: return .boolean(.random(using: &generator))
    case 2: return .whole(Int64(bitPattern: generator.next()) >> Int64.random(in: 0..<64, using: &generator))
    case 3: return .real(Double(Int32(truncatingIfNeeded: generator.next())) / 256 + 1 / 512)
    case 4: return .text(Self.words.randomElement(using: &generator)!)
    case 5: return .list((0..<Int.random(in: 0..<5, using: &generator)).map { _ in tree(&generator, depth: depth + 1) })
    default:
      var members: [String: Tree] = [:]
      for _ in 0..<Int.random(in: 0..<5, using: &generator) {
        members[Self.words.randomElement(using: &generator)!] = tree(&generator, depth: depth + 1)
      }
      return .object(members)
    }
  }

  private func json(_ text: String, _ generator: inout SeededGenerator) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      if scalar.value < 0x20 || scalar == "\"" || scalar == "\\" || Bool.random(using: &generator) {
        for unit in String(scalar).utf16 {
          let digits = String(unit, radix: 16, uppercase: .random(using: &generator))
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  private func json(_ tree: Tree, _ generator: inout SeededGenerator) -> String {
    let space = ["", " ", "\n", "\t\r "].randomElement(using: &generator)!
    switch tree {
    case .null: return space + "null"
    case .boolean(let flag): return "\(flag)" + space
    case .whole(let number): return "\(number)" + space
    case .real(let number): return space + "\(number)"
    case .text(let text): return space + json(text, &generator) + space
    case .list(let items): return "[" + space + items.map { json($0, &generator) }.joined(separator: ",") + "]"
    case .object(let members):
      let written = members.sorted { $0.key < $1.key }.map {
        json($0.key, &generator) + space + ":" + json($0.value, &generator)
      }
      return "{" + written.joined(separator: ",") + space + "}"
    }
  }

  @Test func whatIsWrittenIsRead() throws {
    var generator = SeededGenerator(state: 1)
    for _ in 0..<1_500 {
      let expected = tree(&generator)
      let written = json(expected, &generator)
      #expect(try decode(Tree.self, written) == expected, "\(written)")
    }
  }

  struct Typed: Decodable {
    struct Item: Decodable {
      var port: UInt16
      var list: [String: Bool]?
    }
    var port: Int8?
    var prot: [Item]?
    var list: Item?
  }

  private func expectSound(_ found: [ConfigurationProblem], _ document: [UInt8]) {
    let shown = String(decoding: document, as: UTF8.self)
    #expect(found.count <= ConfigurationDecoder.problemsMax)
    for problem in found {
      #expect(!problem.message.isEmpty && !problem.message.contains("\n"), "\(shown)")
      #expect(problem.pointer.isEmpty || problem.pointer.hasPrefix("/"), "\(shown)")
      #expect(problem.pointer.matches(of: /~(?![01])/).isEmpty, "\(shown)")
    }
  }

  @Test func damagedDocumentsAreRefusedOrMeanTheSameToAnotherParser() throws {
    var generator = SeededGenerator(state: 2)
    let bytes = Array("{}[]\",:\\-+.eE019 tnu\u{0}\u{7F}é".utf8) + [0xFF, 0xC0, 0xED]
    var accepted = 0
    var refused = 0
    for _ in 0..<4_000 {
      var document = Array(json(tree(&generator), &generator).utf8)
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let position = Int.random(in: 0...document.count, using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: document.insert(bytes.randomElement(using: &generator)!, at: position)
        case 1 where position < document.count: document[position] = bytes.randomElement(using: &generator)!
        default: document.removeSubrange(position..<min(document.count, position + 2))
        }
      }
      let found = problems(Tree.self, document)
      expectSound(found, document)
      expectSound(problems(Typed.self, document), document)
      if found.isEmpty {
        accepted += 1
        // Foundation is the more lenient one: whatever this decoder accepts, it must accept.
        #expect(throws: Never.self, "\(String(decoding: document, as: UTF8.self))") {
          try JSONSerialization.jsonObject(with: Data(document), options: .fragmentsAllowed)
        }
      } else {
        refused += 1
      }
    }
    #expect(accepted > 100 && refused > 100, "the fuzzer is lopsided: \(accepted) accepted, \(refused) refused")
  }

  /// Wherever a secret stands and whatever is wrong with it, it stays out of the problems.
  @Test func secretsNeverShow() {
    var generator = SeededGenerator(state: 3)
    let keys = ["password", "ApiKey", "auth_token", "CLIENT-SECRET", "pass_word"]
    let wrappers =
      [{ $0 }, { "[\($0)]" }, { #"{"inner": \#($0)}"# }, { #"[1, {"x": [\#($0)]}]"# }] as [(String) -> String]
    var seen = 0
    for _ in 0..<300 {
      let secret = "S3CR\(generator.next())"
      let text = wrappers.randomElement(using: &generator)!("\"\(secret)\"")
      let document = #"{"\#(keys.randomElement(using: &generator)!)": \#(text)}"#
      for found in [
        problems([String: Int].self, document.utf8), problems([String: [Bool]].self, document.utf8),
        problems([String: ConfigurationDecodingTests.Level].self, document.utf8), problems(Typed.self, document.utf8),
        problems(Tree.self, document.dropLast(2).utf8),
      ] {
        seen += found.count
        #expect(!found.contains { "\($0)".contains(secret) }, "\(found)")
      }
    }
    #expect(seen >= 1_500)
  }
}
