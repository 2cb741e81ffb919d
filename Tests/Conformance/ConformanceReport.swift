/// One check of the suite.
public struct Check: Codable, Sendable, Equatable {
  /// What was looked at, `backend.overwrite`: stable, for programs and for docs/conformance.md.
  public var name: String
  public var passed: Bool
  /// For a failure: what was wrong, with the seed and the smallest trace where there is one. Else a remark or empty.
  public var detail: String
  public var takenMs = 0

  /// Details are cut here: they travel over a pipe and are read by people.
  static let detailCharactersMax = 4_000

  public init(name: String, passed: Bool, detail: String) {
    self.name = name
    self.passed = passed
    self.detail =
      detail.count <= Check.detailCharactersMax
      ? detail : "\(detail.prefix(Check.detailCharactersMax))... (cut at \(Check.detailCharactersMax) characters)"
  }
}

/// One line of the table of what the plugin says it can do.
public struct Capability: Codable, Sendable, Equatable {
  public var name: String
  public var value: String

  public init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

/// What the suite found.
public struct ConformanceReport: Codable, Sendable, Equatable {
  /// Give it again to get the same random cases.
  public var seed: UInt64
  public var checks: [Check] = []
  public var capabilities: [Capability] = []

  public init(seed: UInt64) { self.seed = seed }

  public var isPassed: Bool { checks.allSatisfy(\.passed) }
  public var failures: [Check] { checks.filter { !$0.passed } }
}

/// How far the suite is: whoever runs it in a child learns from the last `began` which check a crash was in.
public enum ConformanceProgress: Codable, Sendable, Equatable {
  case began(String)
  case ended(Check)
  case capability(Capability)
}

/// Why a check failed: one or more sentences.
struct Problem: Error, CustomStringConvertible {
  var description: String
  init(_ sentence: String) { description = sentence }
}

/// Throws a `Problem` unless `condition` holds.
func require(_ condition: Bool, _ sentence: @autoclosure () -> String) throws(Problem) {
  if !condition { throw Problem(sentence()) }
}
