import Testing

@testable import JSONText

@Suite struct JSONTestSuiteFiles {
  /// Our written-down choice for the files either way is right: refused are bytes that are not UTF-8, and UTF-16.
  static let refusedByChoice: Set<String> = [
    "i_string_UTF-16LE_with_BOM.json", "i_string_UTF-8_invalid_sequence.json", "i_string_UTF8_surrogate_U+D800.json",
    "i_string_invalid_utf-8.json", "i_string_iso_latin_1.json", "i_string_lone_utf8_continuation_byte.json",
    "i_string_not_in_unicode_range.json", "i_string_overlong_sequence_2_bytes.json",
    "i_string_overlong_sequence_6_bytes.json", "i_string_overlong_sequence_6_bytes_null.json",
    "i_string_truncated-utf-8.json", "i_string_utf16BE_no_BOM.json", "i_string_utf16LE_no_BOM.json",
  ]

  @Test func everyFile() throws {
    var counts: [Character: Int] = [:]
    for name in try Shared.files(in: "json-test-suite") where name.hasSuffix(".json") {
      let found = problem(try Shared.file("json-test-suite/" + name))
      let mustAccept: Bool
      switch name.first {
      case "y": mustAccept = true
      case "n": mustAccept = false
      default: mustAccept = !Self.refusedByChoice.contains(name)
      }
      #expect((found == nil) == mustAccept, "\(name): \(found.map(String.init(describing:)) ?? "accepted")")
      counts[name.first ?? "?", default: 0] += 1
    }
    #expect(counts["y"] == 95)
    #expect(counts["n"] == 188)
    #expect(counts["i"] == 35)
  }

  @Test func badEncodingHasAKindOfItsOwn() throws {
    for name in Self.refusedByChoice where !name.contains("tf16") && !name.contains("invalid_sequence") {
      let found = try #require(problem(try Shared.file("json-test-suite/" + name)), "\(name)")
      #expect(found.kind == .invalidUTF8, "\(name): \(found)")
    }
  }
}
