import PluginAPI
import Testing

@testable import RuleBook

/// Files that are wrong: each class with its place and sentence.
@Suite struct ReadingTests {
  static let key = String(repeating: "ab", count: 32)

  struct Case: CustomStringConvertible, Sendable {
    var json: String
    var expected: [String]
    var description: String { json }

    init(_ json: String, _ expected: String...) {
      self.json = json
      self.expected = expected
    }
  }

  static func programs(_ text: String) -> String { #"{"version":1,"programs":\#(text)}"# }
  static func rule(_ text: String) -> String { programs(#"{"a://a":\#(text)}"#) }

  static let cases: [Case] = [
    Case(
      "[]", "/version: The version of the format is missing. Begin with version: 1.",
      "The rules must be a mapping with version, limits, keys, json_schemas, programs, but is a list."),
    Case(#"{"programs":{"a://a":"allow"}}"#, "/version: The version of the format is missing. Begin with version: 1."),
    Case(
      #"{"version":2,"programs":{"a://a":"allow"}}"#,
      "/version: The version must be 1, the only one there is, but is 2."),
    Case(#"{"version":1}"#, "/programs: The programs are missing. Say what each demands, as in mutable://open: allow."),
    Case(
      #"{"version":1,"program":{"a://a":"allow"},"programs":{"a://a":"allow"}}"#,
      #"/program: The key "program" is unknown. Did you mean "programs"?"#),
    Case(
      programs("{}"), "/programs: The programs must be a mapping from programs to rules, 1 to 10000, but are a mapping."
    ),
    Case(
      programs(#"{"a:/a":"allow"}"#),
      #"/programs/a:~1a: A program is written like mutable://open, without a path (or * for every program that is not named), but this is "a:/a"."#
    ),
    Case(
      programs(#"{"a://a/b":"allow"}"#),
      #"/programs/a:~1~1a~1b: A program is written like mutable://open, without a path (or * for every program that is not named), but this is "a://a/b"."#
    ),
    Case(
      rule("1"),
      "/programs/a:~1~1a: A rule must be a word (allow, deny, write_once) or a mapping (size_bytes_max: 1000), but is 1."
    ),
    Case(rule("[]"), "/programs/a:~1~1a: The list is empty. To accept everything, write allow."),
    Case(rule(#""alow""#), #"/programs/a:~1~1a: The rule "alow" is unknown. Did you mean "allow"?"#),
    Case(rule(#""json_schema""#), "/programs/a:~1~1a: The rule json_schema needs a value: json_schema: …"),
    Case(
      rule(#"[{"size_byte_max":1}]"#),
      #"/programs/a:~1~1a/0/size_byte_max: The rule "size_byte_max" is unknown. Did you mean "size_bytes_max"?"#),
    Case(
      rule(#"{"size_bytes_max":1,"content":"json"}"#),
      "/programs/a:~1~1a: This is 2 rules in one (size_bytes_max, content). Write each as an item of its own."),
    Case(
      rule(#"{"otherwise":"x"}"#),
      "/programs/a:~1~1a: The mapping names no rule. The rules are all, allow, any, content, deny, json_schema, requires_output, signed_by, size_bytes_max, uri_pattern, write_once."
    ),
    Case(
      rule(#"{"size_bytes_max":-1}"#),
      "/programs/a:~1~1a/size_bytes_max: The value must be a whole number from 0 to 1073741824, but is -1."),
    Case(
      rule(#"{"content":"xml"}"#),
      #"/programs/a:~1~1a/content: The content must be json or bytes, but is the text "xml"."#),
    Case(
      rule(#"{"uri_pattern":"("}"#),
      "/programs/a:~1~1a/uri_pattern: The pattern is no regular expression, or longer than 1024 bytes."),
    Case(rule(#"{"deny":1}"#), "/programs/a:~1~1a/deny: What the client is told must be a text, but is 1."),
    Case(
      rule(#"{"any":"allow"}"#),
      #"/programs/a:~1~1a/any: The value of any must be a list of rules, but is the text "allow"."#),
    Case(
      rule(#"{"signed_by":"owned"}"#),
      #"/programs/a:~1~1a/signed_by: "owned" is neither a name from keys nor a public key of 64 hexadecimal digits. Did you mean "owner"?"#
    ),
    Case(
      rule(#"{"signed_by":{"any":[],"al":1}}"#),
      #"/programs/a:~1~1a/signed_by/al: The key "al" is unknown. Did you mean "all"?"#,
      "/programs/a:~1~1a/signed_by/any: The keys must be a list of 1 to 64, but are a list."),
    Case(
      rule(#"{"requires_output":{"number_min":1}}"#),
      "/programs/a:~1~1a/requires_output: The required output has no uri_pattern, so that any output would do. Give it one."
    ),
    Case(
      rule(#"{"rules":"allow","delete":"never"}"#),
      #"/programs/a:~1~1a/delete: The value must be open (anyone deletes) or none, but is the text "never"."#),
    Case(
      rule(#"{"delete":"none"}"#),
      "/programs/a:~1~1a/rules: The rules are missing. To accept everything, write rules: allow."),
    Case(
      #"{"version":1,"keys":{"a":"12"},"programs":{"a://a":"allow"}}"#,
      #"/keys/a: A public key has 64 hexadecimal digits, but this is the text "12". Put it in quotes."#),
    Case(
      #"{"version":1,"keys":{"owner":"\#(key)"},"programs":{"a://a":"allow"}}"#,
      "/keys/owner: A key cannot be named like this: the word means something else. Choose another name."),
    Case(
      #"{"version":1,"limits":{"time_ms_max":0,"depth":1},"programs":{"a://a":"allow"}}"#,
      #"/limits/depth: The key "depth" is unknown. Known here: json_schema_size_bytes_max, json_schema_depth_max, time_ms_max."#,
      "/limits/time_ms_max: The value must be a whole number from 1 to 60000, but is 0."),
    Case(
      rule(#"{"json_schema":"order"}"#),
      #"/programs/a:~1~1a/json_schema: There is no schema "order" under json_schemas."#),
  ]

  @Test(arguments: cases) func isRefused(_ wrong: Case) {
    let found = problems(wrong.json)
    #expect(Set(found) == Set(wrong.expected))
  }

  @Test func everythingIsSaidAtOnce() {
    let found = problems(
      #"{"version":1,"programs":{"a":"allow","b://b":["alow",{"json_schema":{"typ":"x"}},{"size_bytes_max":"1"}],"c://c":{"deny":[]}}}"#
    )
    #expect(found.count == 5, "\(found)")
  }

  @Test func problemsAreBounded() {
    let many = (0..<1000).map { #""p\#($0)":"allow""# }.joined(separator: ",")
    let found = problems(#"{"version":1,"programs":{\#(many)}}"#)
    #expect(found.count == 101)
    #expect(found.last == "900 more problems are not shown; correct these first.")
  }

  @Test func deepRulesAreRefused() {
    var rule = #""allow""#
    for _ in 0..<9 { rule = #"{"any":[\#(rule)]}"# }
    let found = problems(Self.rule(rule))
    #expect(found.count == 1 && found[0].hasSuffix("The rules are nested deeper than 8 levels."), "\(found)")
  }

  /// Whatever is in a file, reading ends, without a trap.
  @Test func fuzz() {
    var random = SeededGenerator(seed: 11)
    let whole = Array(
      ##"{"version":1,"limits":{"time_ms_max":5},"keys":{"k":"\##(Self.key)"},"json_schemas":{"s":{"type":"object","properties":{"a":{"$ref":"#/definitions/b"}},"definitions":{"b":{"pattern":"^a[b-d]$"}}}},"programs":{"a://a":[{"json_schema":"s"},{"signed_by":{"all":["k"]}},{"requires_output":{"uri_pattern":"x","json_schema":{"$ref":"s#/definitions/b"}}},{"any":["write_once",{"content":"json"}]}],"*":{"rules":"allow","delete":"none"}}}"##
        .utf8)
    #expect(problems(String(decoding: whole, as: UTF8.self)) == [])
    let words = [
      #""allow""#, "null", "[]", "{}", "1e9", #""$ref":"#, #""s#""#, "true", #""any":"#, "-0.5", #""\\u0000""#,
    ]
    .map { Array($0.utf8) }
    var readable = 0
    for _ in 0..<800 {
      var text = whole
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: 0..<text.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: text[at] = UInt8.random(in: 0x20...0x7E, using: &random)
        case 1: text.removeSubrange(at..<min(text.count, at + Int.random(in: 1...12, using: &random)))
        case 2: text.insert(contentsOf: words.randomElement(using: &random)!, at: at)
        default:
          // A value in the place of another.
          guard let colon = text[at...].firstIndex(of: UInt8(ascii: ":")) else { continue }
          let end =
            text[(colon + 1)...].firstIndex { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "}") } ?? text.endIndex
          text.replaceSubrange((colon + 1)..<end, with: words.randomElement(using: &random)!)
        }
      }
      if problems(String(decoding: text, as: UTF8.self)).isEmpty { readable += 1 }
    }
    #expect(readable < 800)
  }
}
