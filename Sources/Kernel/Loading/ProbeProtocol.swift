import Foundation

/// What the kernel asks of a probe: one JSON object on the child's standard input, because arguments and environment can
/// be read by others and the configuration may hold secrets.
struct ProbeRequest: Codable, Sendable {
  struct Configuration: Codable, Sendable {
    var slot: String
    var kind: String
    var json: String
  }

  var stagedPath: String
  var sourcePath: String
  /// The real configuration; nil: only load and test.
  var configuration: Configuration?
  var scratchDirectory: String
  var runsSelfTest: Bool
  var timeoutMs: Int
}

/// What a probe answers: JSON lines on its standard output. `began` lines come first, so that a crash can be told by
/// where it happened; the last line is `ended`.
struct ProbeEvent: Codable, Sendable {
  struct Problem: Codable, Sendable, Equatable {
    var pointer: String
    var message: String
    var isError: Bool
  }

  /// `load`, `create`, `configure`, `self-test`, `destroy`.
  var began: String?
  var ended: Outcome?

  struct Outcome: Codable, Sendable {
    var isAccepted: Bool
    /// Where it failed.
    var step: String
    var refusalCode: String?
    var sentence: String?
    var problems: [Problem] = []
  }
}
