import ArgumentParser
import Kernel

/// What `backplane` exits with. The numbers are those of sysexits.h, so that a service manager can tell a configuration
/// that will never work (`RestartPreventExitStatus=78`) from a passing trouble.
enum ExitStatus: Int32 {
  /// The node answered, and its answer is no: not found, refused, not healthy.
  case refused = 1
  case usage = 64
  case unavailable = 69
  case `internal` = 70
  case configuration = 78

  var exitCode: ExitCode { ExitCode(rawValue) }

  /// The word for it in JSON.
  var word: String {
    switch self {
    case .refused: "refused"
    case .usage: "usage"
    case .unavailable: "unavailable"
    case .internal: "internal"
    case .configuration: "configuration"
    }
  }

  init(word: String) {
    self = [.refused, .usage, .unavailable, .configuration].first { $0.word == word } ?? .internal
  }
}

/// Ends a command: what to tell, and the exit status.
struct CommandFailure: Error {
  let status: ExitStatus
  /// Sentences for the person; already redacted.
  let message: String
  /// False when what there is to say was printed as the command's answer.
  var isReported = true

  init(_ status: ExitStatus, _ message: String) {
    self.status = status
    self.message = Redaction.redact(message)
  }

  /// Ends a command whose printed answer says it all.
  static func answered(_ status: ExitStatus) -> CommandFailure {
    var failure = CommandFailure(status, "")
    failure.isReported = false
    return failure
  }

  /// To standard error, as `{"error":{"code","message"}}` when JSON was asked for.
  func report(json: Bool) {
    guard isReported else { return }
    if json {
      Output.error(
        JSONValue.object(["error": .object(["code": .string(status.word), "message": .string(message)])]).text)
    } else {
      Output.error("backplane: \(message)")
    }
  }
}

extension CommandFailure {
  init(_ error: ConfigurationError) {
    self.init(.configuration, "the configuration cannot be used.\n\(error)")
  }
}
