import PluginAPI

/// A schema that is right, unless its configuration names a fault.
final class ToySchema: Schema {
  enum Fault: String, Decodable, Sendable {
    case refusesSilently = "refuses-silently"
    case turnsInCircles = "turns-in-circles"
    case namesBadPrograms = "names-bad-programs"
  }

  struct Configuration: Decodable, Sendable {
    var fault: Fault?
  }

  private let fault: Fault?
  init(_ configuration: Configuration, _ context: Context) { fault = configuration.fault }

  var programs: [Program] {
    [
      Program(fault == .namesBadPrograms ? "Mutable:open" : "mutable://open"),
      Program("hash://sha256", isCanonical: true),
    ]
  }

  func judge(_ message: Message, _ reader: JudgeReader) async throws -> Verdict {
    if message.data.first == 0x5B { return .reject(fault == .refusesSilently ? "" : "lists are not taken here") }
    return .accept
  }

  func canonical(_ uri: String) -> String? {
    if fault == .turnsInCircles { return uri + "/again" }
    let lower = uri.lowercased()
    return lower == uri ? nil : lower
  }
}
