import PluginAPI
import Testing

@testable import RuleBook

private func schema(_ json: String, documents: [String: String] = [:], bounds: JSONSchema.Bounds = .init()) throws
  -> JSONSchema
{
  try JSONSchema(
    try RuleValue.parse(Array(json.utf8)),
    documents: try documents.mapValues { try RuleValue.parse(Array($0.utf8)) }, bounds: bounds)
}

private func schemaProblems(_ json: String, documents: [String: String] = [:]) throws -> [String] {
  do throws(JSONSchema.Problems) {
    _ = try JSONSchema(
      try! RuleValue.parse(Array(json.utf8)), documents: documents.mapValues { try! RuleValue.parse(Array($0.utf8)) })
    return []
  } catch {
    return error.problems.map { "\($0.document.map { "\($0)#" } ?? "")\($0.pointer): \($0.message)" }
  }
}

extension JSONSchema {
  fileprivate func check(_ json: String, withinMs: Int64 = 60_000) -> Outcome {
    Array(json.utf8).withUnsafeBufferPointer { check($0, deadlineNs: monotonicNs() + withinMs * 1_000_000) }
  }

  fileprivate func fits(_ json: String) -> Bool { check(json) == .fits }
}

/// What the engine is held to besides the test suite, and what hostile schemas and values come to.
@Suite struct JSONSchemaTests {
  @Test func differencesHaveTheirPlaceAndKeyword() throws {
    let schema = try schema(
      #"{"properties":{"a/b":{"items":{"anyOf":[{"type":"string"},{"minimum":5,"type":"number"}]}},"c":{"const":1}},"required":["d"]}"#
    )
    guard case .differs(let differences) = schema.check(#"{"a/b":["x",3],"c":2}"#) else {
      return #expect(Bool(false))
    }
    let places = differences.map { "\($0.pointer) \($0.keyword)" }
    #expect(places.contains("/a~1b/1 anyOf") && places.contains("/a~1b/1 minimum"), "\(places)")
    #expect(places.contains("/c const") && places.contains(" required"), "\(places)")
    #expect(differences.first { $0.keyword == "required" }?.text.contains("'d'") == true)
  }

  @Test func differencesOfAChoiceThatHoldsAreForgotten() throws {
    let schema = try schema(#"{"anyOf":[{"type":"string"},{"type":"number"}],"maximum":3}"#)
    #expect(
      schema.check("4")
        == .differs([
          .init(pointer: "", keyword: "maximum", text: "Expected number less than or equal to 3.000000")
        ]))
  }

  @Test func numbers() throws {
    #expect(try schema(#"{"type":"integer"}"#).fits("1.0"))
    #expect(try !schema(#"{"multipleOf":1}"#).fits("0.5"))
    #expect(try schema(#"{"multipleOf":0.01}"#).fits("19.99"))
    #expect(try !schema(#"{"maximum":100}"#).fits("18446744073709551615"))
    #expect(try !schema(#"{"maximum":100}"#).fits("9223372036854775808"))
    #expect(try schema(#"{"minimum":0}"#).fits("18446744073709551615"))
    #expect(try !schema(#"{"multipleOf":3}"#).fits("-9223372036854775808"))
    guard case .undecided = try schema("{}").check("1e400") else { return #expect(Bool(false)) }
  }

  @Test func lengthsCountEverything() throws {
    #expect(try !schema(#"{"maxLength":2}"#).fits(#""a\u0000bcdef""#))
    #expect(try schema(#"{"maxLength":2}"#).fits(#""äö""#))
    #expect(try !schema(#"{"minLength":3}"#).fits(#""äö""#))
  }

  @Test func patternsAreJavaScripts() throws {
    #expect(try !schema(#"{"pattern":"^a$"}"#).fits(#""a\n""#))
    #expect(try !schema(#"{"pattern":"^\\d$"}"#).fits(#""٣""#))
    #expect(try schema(#"{"pattern":"^[[]$"}"#).fits(#""[""#))
    #expect(try schema(#"{"pattern":"^[a&&b]+$"}"#).fits(#""a&b""#))
    #expect(try schema(#"{"pattern":"^[^]$"}"#).fits(#""\n""#))
    #expect(try !schema(#"{"pattern":"[]"}"#).fits(#""a""#))
    #expect(try schema(#"{"pattern":"^[+--]$"}"#).fits(#""-""#))
    #expect(try schema(#"{"patternProperties":{"^x":{"type":"string"}}}"#).fits(#"{"x1":"a","y":1}"#))
    #expect(try !schema(#"{"patternProperties":{"^x":{"type":"string"}}}"#).fits(#"{"x1":1}"#))
    #expect(try !schema(#"{"patternProperties":{"^x":{}},"additionalProperties":false}"#).fits(#"{"y":1}"#))
    #expect(try !schema(#"{"propertyNames":{"pattern":"^x"}}"#).fits(#"{"y":1}"#))
  }

  @Test func formats() throws {
    for (format, good, bad) in [
      ("date", ["2024-02-29"], ["2023-02-29", "2024-13-01", "24-01-01", "2024-01-01x", ""]),
      ("time", ["23:59:60Z", "10:00:00.123+02:00"], ["10:00:00", "24:00:00Z", "10:00Z"]),
      ("date-time", ["2024-01-31t10:00:00z"], ["2024-01-31 10:00:00Z", "2024-01-32T10:00:00Z"]),
    ] {
      let schema = try schema(#"{"format":"\#(format)"}"#)
      for text in good { #expect(schema.fits("\"\(text)\""), "\(text)") }
      for text in bad { #expect(!schema.fits("\"\(text)\""), "\(text)") }
      #expect(schema.fits("1"))
    }
  }

  @Test func uniqueItems() throws {
    let schema = try schema(#"{"uniqueItems":true}"#)
    #expect(schema.fits(#"[1,"1",true,null,[1],{"a":1},{"b":1},"1,2",["1","2"]]"#))
    #expect(!schema.fits("[1,1.0]"))
    #expect(!schema.fits(#"[{"a":1,"b":2},{"b":2,"a":1}]"#))
  }

  // MARK: References

  @Test func referencesToOtherDocuments() throws {
    let schema = try schema(
      ##"{"properties":{"price":{"$ref":"amount.json"},"fee":{"$ref":"./amount.json#/definitions/small"}}}"##,
      documents: [
        "amount.json": ##"{"type":"integer","definitions":{"small":{"allOf":[{"$ref":"#"},{"maximum":9}]}}}"##
      ])
    #expect(schema.fits(#"{"price":100,"fee":9}"#))
    #expect(!schema.fits(#"{"fee":10}"#))
    #expect(!schema.fits(#"{"fee":1.5}"#))
  }

  @Test func recursionIntoTheValue() throws {
    let schema = try schema(##"{"required":["n"],"properties":{"next":{"$ref":"#"}}}"##)
    #expect(schema.fits(#"{"n":1,"next":{"n":2,"next":{"n":3}}}"#))
    #expect(!schema.fits(#"{"n":1,"next":{"n":2,"next":{}}}"#))
  }

  @Test(arguments: [
    (##"{"$ref":"https://example.org/a.json"}"##, "is not followed: nothing is fetched"),
    (##"{"$ref":"file:///etc/passwd"}"##, "is not followed: nothing is fetched"),
    (##"{"$ref":"../secrets.json"}"##, "is not under json_schemas"),
    (##"{"$ref":"#name"}"##, "Use a JSON pointer"),
    (##"{"$ref":"#/definitions/none"}"##, "leads to nothing"),
    (##"{"$ref":"#/title","title":"x"}"##, "not used as a schema"),
    (##"{"$ref":"#"}"##, "leads back to itself"),
    (##"{"definitions":{"a":{"$ref":"#/definitions/b"},"b":{"$ref":"#/definitions/a"}}}"##, "leads back to itself"),
    (##"{"allOf":[{"$ref":"#"}]}"##, "without going deeper"),
    (##"{"$ref":"#/definitions/a","maximum":1,"definitions":{"a":{}}}"##, "Beside $ref nothing else is checked"),
    (##"{"$ref":1}"##, "must be a text"),
    (##"{"$ref":"%zz"}"##, "is no URI reference"),
  ]) func badReferences(_ json: String, _ reason: String) throws {
    let found = try schemaProblems(json)
    #expect(!found.isEmpty && found.allSatisfy { $0.contains(reason) }, "\(found)")
  }

  @Test(arguments: [
    (
      #"{"requried":["a"]}"#,
      #"/requried: The keyword "requried" is unknown and would not be checked. Did you mean "required"?"#
    ),
    (
      #"{"unevaluatedProperties":false}"#,
      "/unevaluatedProperties: The keyword unevaluatedProperties is of a draft after 7"
    ),
    (#"{"$schema":"https://json-schema.org/draft/2020-12/schema"}"#, "/$schema: The drafts 4, 6 and 7"),
    (#"{"properties":{"a":{"pattern":"("}}}"#, "/properties/a/pattern: The pattern is no regular expression"),
    (#"{"multipleOf":0}"#, "/multipleOf: multipleOf must be a number above zero"),
    (#"{"properties":[]}"#, "/properties: The value must be a mapping of schemas"),
    (#"{"allOf":{}}"#, "/allOf: The value must be a list of schemas"),
    (#"{"not":1}"#, "/not: A schema must be a mapping, true or false, but is 1."),
    (#"{"type":"strin"}"#, ": The schema cannot be used:"),
    (#"{"maxLength":-1}"#, ": The schema cannot be used:"),
    (#"{"enum":1}"#, ": The schema cannot be used:"),
  ]) func badSchemas(_ json: String, _ sentence: String) throws {
    let found = try schemaProblems(json)
    #expect(found.count == 1 && found[0].hasPrefix(sentence), "\(found)")
  }

  @Test func remarksOfOnesOwn() throws {
    #expect(try schemaProblems(#"{"x-owner":"me","title":"t","format":"email"}"#) == [])
  }

  // MARK: Hostile

  @Test func deepValues() throws {
    let schema = try schema(##"{"items":{"$ref":"#"}}"##)
    func nested(_ depth: Int) -> String {
      String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }
    #expect(schema.fits(nested(60)))
    #expect(
      schema.check(nested(100))
        == .undecided("the value is nested deeper than 64 schemas (json_schema_depth_max)", bound: .jsonSchemaDepth))
    guard case .undecided = schema.check(nested(100_000)) else { return #expect(Bool(false)) }
  }

  /// The stack of a thread that judges must hold the deepest check that can be configured.
  @Test func theDeepestCheckFitsIntoASmallStack() throws {
    let schema = try schema(
      ##"{"properties":{"a":{"anyOf":[{"$ref":"#"}]}},"patternProperties":{"b":{"$ref":"#"}}}"##,
      bounds: .init(sizeBytesMax: 1 << 20, depthMax: 128))
    let value = String(repeating: #"{"a":"#, count: 63) + "1" + String(repeating: "}", count: 63)
    let outcome = onSmallStack { schema.check(value) }
    #expect(outcome == .fits)
  }

  @Test func exponentialPatternsAreEnded() throws {
    let schema = try schema(#"{"pattern":"^(a+)+$"}"#)
    let started = ContinuousClock.now
    let value = "\"" + String(repeating: "a", count: 3000) + "!\""
    #expect(schema.check(value, withinMs: 100) == .undecided("the time for it is over (time_ms_max)", bound: .time))
    #expect(ContinuousClock.now - started < .seconds(30))
  }

  @Test func exponentialSchemasAreEnded() throws {
    // Each level doubles the work.
    let levels = (0..<40).map {
      ##""d\##($0)":{"anyOf":[{"allOf":[{"$ref":"#/definitions/d\##($0 + 1)"},{"not":{}}]},{"$ref":"#/definitions/d\##($0 + 1)"}]}"##
    }
    let text =
      ##"{"$ref":"#/definitions/d0","definitions":{\##(levels.joined(separator: ",")),"d40":{"type":"null"}}}"##
    do throws(JSONSchema.Problems) {
      _ = try JSONSchema(try! RuleValue.parse(Array(text.utf8)), bounds: .init(sizeBytesMax: 1 << 20, depthMax: 128))
      Issue.record("it was taken")
    } catch {
      #expect(
        error.problems.map(\.message) == [
          "Checking null takes longer than 1000 ms. Its parts ask for one another too often."
        ])
    }
  }

  @Test func exponentialValuesAreEnded() throws {
    let schema = try schema(
      ##"{"anyOf":[{"type":"array","items":{"$ref":"#"}},{"type":"array","items":{"$ref":"#"}},{"type":"null"}]}"##)
    let value = String(repeating: "[", count: 30) + "1" + String(repeating: "]", count: 30)
    #expect(schema.check(value, withinMs: 200) == .undecided("the time for it is over (time_ms_max)", bound: .time))
  }

  @Test func largeArraysOfUniqueItemsAreQuick() throws {
    let schema = try schema(#"{"uniqueItems":true,"items":{"enum":["a",1,2,3]}}"#)
    let value = "[" + (0..<100_000).map { "\($0)" }.joined(separator: ",") + "]"
    let started = ContinuousClock.now
    guard case .differs(let differences) = schema.check(value) else { return #expect(Bool(false)) }
    // Not one for each item.
    #expect(differences.count == 8)
    #expect(ContinuousClock.now - started < .seconds(60))
  }

  @Test func sizesAreBounded() throws {
    let schema = try schema("{}", bounds: .init(sizeBytesMax: 10, depthMax: 64))
    #expect(
      schema.check(#""0123456789""#)
        == .undecided(
          "the value has 12 bytes, and 10 is the most that is checked (json_schema_size_bytes_max)",
          bound: .jsonSchemaSize))
    let many = (0..<5001).map { #""p\#($0)":{}"# }.joined(separator: ",")
    #expect(try schemaProblems(#"{"properties":{\#(many)}}"#).contains(": There are more than 5000 schemas.") == false)
    #expect(
      try schemaProblems(#"{"properties":{\#(many)}}"#).contains { $0.hasSuffix("There are more than 5000 schemas.") })
  }

  /// Compiling recurses through references, and so does a check where the value goes on.
  @Test func longChainsOfReferences() throws {
    let links = (0..<2000).map { ##""d\##($0)":{"properties":{"a":{"$ref":"#/definitions/d\##($0 + 1)"}}}"## }
    let schema = try schema(
      ##"{"$ref":"#/definitions/d0","definitions":{\##(links.joined(separator: ",")),"d2000":{}}}"##)
    #expect(schema.fits(#"{"a":{"a":1}}"#))
    let value = String(repeating: #"{"a":"#, count: 100) + "1" + String(repeating: "}", count: 100)
    #expect(
      schema.check(value)
        == .undecided("the value is nested deeper than 64 schemas (json_schema_depth_max)", bound: .jsonSchemaDepth))
  }

  @Test func longDigitsAndTexts() throws {
    let schema = try schema(#"{"type":"number"}"#)
    guard case .undecided = schema.check(String(repeating: "9", count: 500_000)) else { return #expect(Bool(false)) }
    #expect(try schemaOfDate().check("\"" + String(repeating: "9", count: 900_000) + "\"") != .fits)
  }

  private func schemaOfDate() throws -> JSONSchema { try schema(#"{"format":"date-time"}"#) }

  @Test func manyThreadsCheckWithOne() async throws {
    let schema = try schema(#"{"pattern":"^a+$"}"#)
    let wrong = await withTaskGroup(of: Int.self) { group in
      for task in 0..<8 {
        group.addTask {
          (0..<500).count {
            schema.fits(#""\#(String(repeating: "a", count: $0 + 1))\#(task % 2 == 0 ? "" : "b")""#) != (task % 2 == 0)
          }
        }
      }
      return await group.reduce(0, +)
    }
    #expect(wrong == 0)
  }
}
