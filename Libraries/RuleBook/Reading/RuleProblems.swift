import PluginAPI

/// What is wrong with a rules file: all of it, up to a bound.
struct RuleProblems {
  static let problemsMax = 100
  private(set) var problems: [ConfigurationProblem] = []
  private var omittedCount = 0

  var isEmpty: Bool { problems.isEmpty }

  mutating func add(_ pointer: String, _ message: String) {
    guard problems.count < Self.problemsMax else {
      omittedCount += 1
      return
    }
    problems.append(ConfigurationProblem(pointer: pointer, message: message))
  }

  func throwIfAny() throws(ConfigurationErrors) {
    guard !problems.isEmpty else { return }
    guard omittedCount > 0 else { throw ConfigurationErrors(problems: problems) }
    let more = ConfigurationProblem(message: "\(omittedCount) more problems are not shown; correct these first.")
    throw ConfigurationErrors(problems: problems + [more])
  }

  /// The members of a mapping whose keys are all of `known`; nil, and a problem, when `value` is no mapping.
  mutating func members(
    _ value: RuleValue, at pointer: String, what: String, known: [String]
  ) -> [String: RuleValue]? {
    guard case .mapping(let members) = value else {
      add(pointer, "\(what) must be a mapping with \(Self.listed(known)), but is \(value.found).")
      return nil
    }
    var found: [String: RuleValue] = [:]
    for member in members {
      if known.contains(member.key) {
        found[member.key] = member.value
      } else {
        add(Pointer.appending(member.key, to: pointer), Self.unknown(member.key, known: known))
      }
    }
    return found
  }

  static func unknown(_ key: String, known: [String]) -> String {
    if let meant = ConfigurationSpelling.nearest(to: key, among: known) {
      return "The key \"\(shown(key))\" is unknown. Did you mean \"\(meant)\"?"
    }
    return "The key \"\(shown(key))\" is unknown. Known here: \(listed(known))."
  }

  static func listed(_ names: [String]) -> String { names.joined(separator: ", ") }

  static func shown(_ text: String) -> String { text.count > 60 ? text.prefix(60) + "…" : text }

  /// A whole number within a range; the default, and a problem, for anything else.
  mutating func whole(
    _ value: RuleValue?, at pointer: String, in range: ClosedRange<Int>, default fallback: Int
  ) -> Int {
    guard let value else { return fallback }
    if let number = value.whole, range.contains(Int(number)) { return Int(number) }
    add(
      pointer,
      "The value must be a whole number from \(range.lowerBound) to \(range.upperBound), but is \(value.found).")
    return fallback
  }

  /// A text that is not empty; nil, and a problem, for anything else.
  mutating func text(_ value: RuleValue, at pointer: String, what: String) -> String? {
    if case .text(let text) = value, !text.isEmpty, text.utf8.count <= 4096 { return text }
    add(pointer, "\(what) must be a text, but is \(value.found).")
    return nil
  }
}

/// JSON pointers (RFC 6901).
enum Pointer {
  static func appending(_ key: String, to base: String) -> String {
    var text = base + "/"
    for scalar in key.unicodeScalars {
      switch scalar {
      case "~": text += "~0"
      case "/": text += "~1"
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }

  /// The parts of a pointer, unescaped; nil when it is none.
  static func parts(_ pointer: Substring) -> [String]? {
    guard !pointer.isEmpty else { return [] }
    guard pointer.first == "/" else { return nil }
    return pointer.dropFirst().split(separator: "/", omittingEmptySubsequences: false).map { part in
      part.split(separator: "~1", omittingEmptySubsequences: false).map { piece in
        piece.split(separator: "~0", omittingEmptySubsequences: false).joined(separator: "~")
      }.joined(separator: "/")
    }
  }
}
