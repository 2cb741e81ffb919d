import Conformance

/// What `plugin check` asks of its child: one JSON object on the child's standard input.
struct PluginCheckRequest: Codable, Sendable {
  /// The private copy that is opened, and what to call it in sentences.
  var file: String
  var sourceFile: String
  var scratchDirectory: String
  var seed: UInt64
  /// The configuration to test with; nil: the suite's own.
  var configuration: String?
  var extent: Extent
  /// Names of checks, or what they begin with; empty: all.
  var only: [String]
  /// Set for the child's child, which writes and is killed.
  var crash: CrashOrder?
}

/// The name of the check that the file can be opened at all.
let loadCheckName = "load"
