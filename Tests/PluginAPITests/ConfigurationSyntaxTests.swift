import Foundation
import PluginAPI
import Testing

@Suite struct ConfigurationSyntaxTests {
  @Test(arguments: [
    ("", ": the document is empty; write {} for a configuration without settings."),
    (" \n", ": the document is empty; write {} for a configuration without settings."),
    ("\u{FEFF}{}", ": the document begins with a byte order mark; save it as UTF-8 without one."),
    (#"{"a": 1,}"#, #": expected a key in double quotes at line 1, column 9, but there is "}"."#),
    ("{\n  \"é\": [1 2]}", #"/é: expected a comma or a closing bracket at line 2, column 11, but there is "2"."#),
    (#"{"a": {"b": [0, tru]}}"#, #"/a/b/1: expected a value at line 1, column 17, but there is "t"."#),
    (#"{"a" 1}"#, #"/a: expected a colon after the key at line 1, column 6, but there is "1"."#),
    ("[1", ": expected a comma or a closing bracket at line 1, column 3, but the document ends."),
    ("1 2", #": expected the end of the document at line 1, column 3, but there is "2"."#),
    ("[012]", "/0: the number at line 1, column 2 begins with a zero; write it without leading zeros."),
    ("[1.]", #"/0: expected a digit at line 1, column 4, but there is "]"."#),
    ("[\"a", "/0: the text that begins at line 1, column 2 does not end; close it with a double quote."),
    (#"["\x"]"#, #"/0: the escape at line 1, column 3 does not exist in JSON; write a backslash itself as two (\\)."#),
    (
      #"["\ud800"]"#,
      "/0: the escape at line 1, column 3 is half of a surrogate pair; write the character itself or both halves."
    ),
    (
      #"{"a": 1, "b": {"a": 2, "a": 3}, "a": 4}"#,
      #"/b/a: the key "a" appears again at line 1, column 24; keep one of them."#
    ),
  ])
  func mistakesHaveAPlace(json: String, expected: String) {
    #expect(lines(Tree.self, json).first == expected)
  }

  @Test func everyDuplicateKeyIsReported() {
    #expect(
      problems(Tree.self, #"{"a": 1, "b": {"a": 2, "a": 3}, "\u0061": 4}"#.utf8).map(\.pointer) == ["/b/a", "/a"])
  }

  @Test func textHasToBeUTF8() {
    let found = problems(Tree.self, [0x5B, 0x22, 0xC3, 0x28, 0x22, 0x5D])
    #expect(
      found == [
        ConfigurationProblem(
          pointer: "/0", message: "the text at line 1, column 2 is not valid UTF-8; save the document as UTF-8.")
      ])
  }

  @Test func sizeAndDepthAreLimited() throws {
    let depth = ConfigurationDecoder.depthMax
    let deepest = String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    _ = try decode(Tree.self, deepest)
    let deeper = problems(Tree.self, "[\(deepest)]".utf8)
    #expect(deeper.count == 1)
    #expect(deeper.first?.message.contains("nested more than 64 deep") == true)
    #expect(problems(Tree.self, [UInt8](repeating: UInt8(ascii: "["), count: 60_000)).count == 1)

    let largest = "\"" + String(repeating: "x", count: ConfigurationDecoder.sizeBytesMax - 2) + "\""
    _ = try decode(String.self, largest)
    #expect(lines(String.self, largest + " ").first?.hasPrefix(": the configuration has 1048577 bytes") == true)
  }

  @Test func theParsingTestSuite() throws {
    let root =
      ProcessInfo.processInfo.environment["BACKPLANE_SHARED"].map { URL(fileURLWithPath: $0) }
      ?? URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent().appending(path: "shared")
    let folder = root.appending(path: "vectors/json-test-suite")
    let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "json" }
    #expect(files.count > 300, "the vectors are missing; set BACKPLANE_SHARED to the folder that holds vectors/")
    // RFC 8259 leaves these to the implementation; a configuration with two values for one key is a mistake.
    let refused: Set = ["y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"]
    for file in files {
      let name = file.lastPathComponent
      let found = problems(Tree.self, try Data(contentsOf: file))
      if refused.contains(name) {
        #expect(found.first?.message.contains("appears again") == true, "\(name)")
      } else if name.hasPrefix("y_") {
        #expect(found.isEmpty, "\(name): \(found)")
      } else if name.hasPrefix("n_") {
        #expect(!found.isEmpty, "\(name)")
      }
    }
  }
}
