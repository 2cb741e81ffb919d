import PluginAPI
import URIText

/// The slot's configuration. Every key is optional; docs/b3nd-schema.md has the table.
public struct B3ndConfiguration: Decodable, Sendable {
  /// The most programs of one instance.
  static let programsMax = 1_000

  /// In the order that clients see.
  let programs: [(key: String, rule: Rule)]
  let deletes: DeletePolicy
  let isFallback: Bool

  private enum CodingKeys: String, CodingKey {
    case programs
    case deletes = "delete"
    case isFallback = "fallback"
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    programs = try container.decodeIfPresent(ProgramList.self, forKey: .programs)?.programs ?? Rule.builtIn.map { $0 }
    deletes = try container.decodeIfPresent(DeletePolicy.self, forKey: .deletes) ?? .open
    isFallback = try container.decodeIfPresent(Bool.self, forKey: .isFallback) ?? true
  }
}

/// Who may delete a record.
enum DeletePolicy: String, CaseIterable, Decodable, Sendable {
  /// Anyone, as in the reference.
  case open
  /// Whoever may write over it.
  case owner
  case none

  init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let policy = DeletePolicy(rawValue: text) else {
      throw ConfigurationProblem(message: "there is no delete policy '\(text)': set it to open, owner or none.")
    }
    self = policy
  }
}

/// `programs`: names of the built-in set, or a mapping of programs to rules.
private struct ProgramList: Decodable {
  var programs: [(key: String, rule: Rule)] = []

  private struct ProgramName: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init(from decoder: any Decoder) throws {
    var problems: [ConfigurationProblem] = []
    if var names = try? decoder.unkeyedContainer() {
      try take(&names, &problems)
    } else {
      try take(decoder.container(keyedBy: ProgramName.self), &problems)
    }
    if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
    guard !programs.isEmpty else {
      throw ConfigurationProblem(
        message: "programs is empty: name at least one program, or leave the key out for the nine built-in ones.")
    }
    guard programs.count <= B3ndConfiguration.programsMax else {
      throw ConfigurationProblem(
        message: "there are \(programs.count) programs, and \(B3ndConfiguration.programsMax) is the most.")
    }
  }

  /// A list: the order is the list's.
  private mutating func take(
    _ names: inout any UnkeyedDecodingContainer, _ problems: inout [ConfigurationProblem]
  ) throws {
    while !names.isAtEnd {
      let pointer = "/\(names.currentIndex)"
      let name = try names.decode(String.self)
      guard let (key, rule) = Rule.builtIn.first(where: { $0.program == name }) else {
        problems.append(
          ConfigurationProblem(
            pointer: pointer,
            message: "'\(name)' is none of the built-in programs (\(Self.listed(Rule.builtIn.map(\.program)))): a "
              + "program of your own needs a rule, so write programs as a mapping of programs to rules."))
        continue
      }
      guard !programs.contains(where: { $0.key == name }) else {
        problems.append(ConfigurationProblem(pointer: pointer, message: "'\(name)' stands in the list already."))
        continue
      }
      programs.append((key, rule))
    }
  }

  /// A mapping has no order: the built-in programs come first, in theirs, then the others by name.
  private mutating func take(
    _ rules: KeyedDecodingContainer<ProgramName>, _ problems: inout [ConfigurationProblem]
  ) throws {
    for key in rules.allKeys {
      let name = key.stringValue
      let text = try rules.decode(String.self, forKey: key)
      let pointer = "/" + name.escapedForPointer
      guard let rule = Rule(rawValue: text) else {
        problems.append(
          ConfigurationProblem(
            pointer: pointer,
            message: "there is no rule '\(text)': the rules are \(Self.listed(Rule.allCases.map(\.rawValue)))."))
        continue
      }
      guard URIText.normalise(name)?.program == name else {
        problems.append(
          ConfigurationProblem(
            pointer: pointer,
            message: "'\(name)' is no program: write the scheme in lower case, :// and a host, such as mutable://open."
          ))
        continue
      }
      guard rule != .hash || name == "hash://sha256" else {
        problems.append(
          ConfigurationProblem(
            pointer: pointer, message: "the rule hash is for hash://sha256 alone: that is where digests stand."))
        continue
      }
      programs.append((name, rule))
    }
    let builtIn = Rule.builtIn.map(\.program)
    func place(_ name: String) -> Int { builtIn.firstIndex(of: name) ?? builtIn.count }
    programs.sort { (place($0.key), $0.key) < (place($1.key), $1.key) }
  }

  private static func listed(_ names: [String]) -> String { names.joined(separator: ", ") }
}

extension String {
  /// As a segment of a JSON pointer.
  fileprivate var escapedForPointer: String {
    reduce(into: "") { text, character in
      switch character {
      case "~": text += "~0"
      case "/": text += "~1"
      default: text.append(character)
      }
    }
  }
}
