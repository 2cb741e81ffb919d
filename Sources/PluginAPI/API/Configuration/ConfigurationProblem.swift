/// One thing that is wrong with a slot's configuration.
///
/// An author may throw one from `init(from:)`: its pointer is then relative to the value being decoded (empty: that
/// value itself), and the decoder puts the place of that value in front of it.
public struct ConfigurationProblem: Error, Sendable, Equatable, CustomStringConvertible {
  /// Where, as a JSON pointer (RFC 6901); empty for the whole document. A missing key is named by the place where it
  /// should be. The user information of a URL that is used as a key is replaced by `***`.
  public var pointer: String
  /// One sentence for the person who wrote the configuration: what is wrong and what to do. Carries no secret.
  public var message: String

  public init(pointer: String = "", message: String) {
    self.pointer = pointer
    self.message = message
  }

  public var description: String { pointer.isEmpty ? message : "\(pointer): \(message)" }
}

/// Everything that was found wrong with a configuration in one go: never empty when the decoder throws it, and at most
/// `ConfigurationDecoder.problemsMax` problems, of which the last says how many more there are.
///
/// An author may throw one from `init(from:)` to report several problems at once; the pointers are relative, as in
/// `ConfigurationProblem`.
public struct ConfigurationErrors: Error, Sendable, Equatable, CustomStringConvertible {
  public var problems: [ConfigurationProblem]

  public init(problems: [ConfigurationProblem]) {
    self.problems = problems
  }

  /// One line a problem.
  public var description: String { problems.map(\.description).joined(separator: "\n") }
}
