import JSONText

/// One rule that a document breaks, or one part of it that has no effect.
public struct DocumentProblem: Equatable, Sendable, CustomStringConvertible {
  /// RFC 6901, into the document; empty: all of it.
  public let pointer: String
  /// For a rule, the reference's text.
  public let text: String

  public init(pointer: String, text: String) {
    self.pointer = pointer
    self.text = text
  }

  /// `/server/port: server.port must be 1-65535`.
  public var description: String { pointer.isEmpty ? text : "\(pointer): \(text)" }
}

/// Why a document is none.
public enum DocumentError: Error, Equatable, Sendable, CustomStringConvertible {
  case notJSON(JSONError)
  case rule(DocumentProblem)

  /// The rule's text alone, as the reference says it.
  public var description: String {
    switch self {
    case .notJSON(let error): error.description
    case .rule(let problem): problem.text
    }
  }
}

/// Problems in the order in which they were found, up to a bound.
struct ProblemList {
  static let countMax = 64
  private(set) var problems: [DocumentProblem] = []

  mutating func add(_ pointer: String, _ text: String) {
    if problems.count < Self.countMax {
      problems.append(DocumentProblem(pointer: pointer, text: text))
    } else if problems.count == Self.countMax {
      problems.append(DocumentProblem(pointer: "", text: "there are more than \(Self.countMax); the rest is left out"))
    }
  }

  /// Adds the text unless it holds.
  mutating func require(_ holds: Bool, _ pointer: String, _ text: String) {
    if !holds { add(pointer, text) }
  }

  mutating func add(contentsOf other: [DocumentProblem], below pointer: String, prefix: String) {
    for problem in other { add(pointer + problem.pointer, prefix + problem.text) }
  }
}
