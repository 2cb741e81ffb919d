/// One thing that is wrong with the configuration, said to the person who can put it right.
public struct ConfigurationProblem: Error, Sendable, Equatable, CustomStringConvertible {
  /// Where the value stands.
  public let origin: ConfigurationOrigin
  /// The value's place as a JSON pointer (RFC 6901) into the merged configuration, or nil when the problem has no one
  /// place, as with a file that is not YAML.
  public let pointer: String?
  /// What is wrong and what to do, as sentences. Carries no secret: values in it went through `Redaction`.
  public let message: String

  init(_ origin: ConfigurationOrigin, pointer: String? = nil, _ message: String) {
    self.origin = origin
    self.pointer = pointer
    self.message = message
  }

  /// The dotted key that belongs to the pointer (`limits.body_size_bytes_max`), as `config show` prints it.
  public var key: String? { pointer.map(JSONPointer.dotted) }

  /// The problem on one line: `file backplane.yaml:12: limits.x (/limits/x): …`.
  public var description: String {
    guard let pointer, let key else { return "\(origin): \(message)" }
    return "\(origin): \(key) (\(pointer)): \(message)"
  }
}

/// Thrown when a configuration cannot be used: every problem found, not only the first.
public struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
  /// In the order found: files as they are read, then environment, then flags, then what only shows after merging.
  public let problems: [ConfigurationProblem]
  /// What to watch, so that a file that is put right is seen: as `LoadedConfiguration.watchedDirectories`.
  public internal(set) var watchedDirectories: [String] = []

  /// One problem a line.
  public var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// Gathers problems, so that one run of `config check` shows all of them. Bounded: a file of rubbish must not make a
/// report of a million lines.
struct ProblemList {
  static let problemsMax = 100
  private(set) var problems: [ConfigurationProblem] = []
  private(set) var omittedCount = 0

  var isEmpty: Bool { problems.isEmpty }

  mutating func add(_ origin: ConfigurationOrigin, pointer: String? = nil, _ message: String) {
    add(ConfigurationProblem(origin, pointer: pointer, message))
  }

  mutating func add(_ problem: ConfigurationProblem) {
    guard problems.count < Self.problemsMax else {
      omittedCount += 1
      return
    }
    problems.append(problem)
  }

  func throwIfAny() throws(ConfigurationError) {
    guard !problems.isEmpty else { return }
    guard omittedCount > 0 else { throw ConfigurationError(problems: problems) }
    let more = ConfigurationProblem(
      .builtIn, "\(omittedCount) more problems are not shown; put the first \(Self.problemsMax) right and run it again."
    )
    throw ConfigurationError(problems: problems + [more])
  }
}
