import Foundation
import PluginAPI
import Testing

@testable import RuleBook

/// Debian's json-schema-test-suite against the engine, for the drafts that are known here.
@Suite struct SuiteTests {
  static let folder = "/usr/share/json-schema-test-suite/tests"

  @Test(arguments: ["draft4", "draft6", "draft7"]) func suite(_ draft: String) throws {
    let known = KnownDeviations.names(draft)
    var failing: Set<String> = []
    var count = 0
    let enumerator = try #require(FileManager.default.enumerator(atPath: "\(Self.folder)/\(draft)"))
    for case let name as String in enumerator where name.hasSuffix(".json") {
      let data = try Data(contentsOf: URL(filePath: "\(Self.folder)/\(draft)/\(name)"))
      let groups = try #require(try JSONSerialization.jsonObject(with: data) as? [[String: Any]])
      for group in groups {
        let title = "\(name): \(group["description"] ?? "")"
        var schema = try value(group["schema"] as Any)
        if case .mapping(var members) = schema, schema["$schema"] == nil {
          members.append(
            .init(
              "$schema",
              .text("http://json-schema.org/\(draft.replacingOccurrences(of: "draft", with: "draft-0"))/schema#")))
          schema = .mapping(members)
        }
        let compiled = Result { () throws -> JSONSchema in try JSONSchema(schema, isStrict: false) }
        for test in try #require(group["tests"] as? [[String: Any]]) {
          count += 1
          var text: [UInt8] = []
          try value(test["data"] as Any).write(to: &text)
          let isValid = try #require(test["valid"] as? Bool)
          var isRight = false
          if case .success(let schema) = compiled {
            let outcome = text.withUnsafeBufferPointer { schema.check($0, deadlineNs: .max) }
            if case .undecided = outcome {} else { isRight = (outcome == .fits) == isValid }
          }
          if !isRight { failing.insert("\(title): \(test["description"] ?? "")") }
        }
      }
    }
    #expect(count > 100)
    for name in failing.sorted() where !known.contains(name) { Issue.record("\(draft): fails: \(name)") }
    for name in known.sorted() where !failing.contains(name) {
      Issue.record("\(draft): does not fail any more: \(name)")
    }
  }

  private func value(_ any: Any) throws -> RuleValue {
    switch any {
    case is NSNull: return .null
    case let number as NSNumber:
      if isBoolean(number) { return .boolean(number.boolValue) }
      if let whole = Int64(exactly: number.doubleValue), number.stringValue == "\(whole)" { return .integer(whole) }
      return .number(number.doubleValue)
    case let text as String: return .text(text)
    case let list as [Any]: return .list(try list.map(value))
    case let mapping as [String: Any]:
      return .mapping(try mapping.sorted { $0.key < $1.key }.map { .init($0.key, try value($0.value)) })
    default: throw Failure.internal("what is \(any)?")
    }
  }

  private func isBoolean(_ number: NSNumber) -> Bool { String(cString: number.objCType) == "c" }
}
