import PluginAPI

/// A schema that is right, unless its configuration names a fault.
final class ToySchema: DirectSchema {
  enum Fault: String, Decodable, Sendable {
    case refusesSilently = "refuses-silently"
    case turnsInCircles = "turns-in-circles"
    case namesBadPrograms = "names-bad-programs"
  }

  struct Configuration: Decodable, Sendable {
    var fault: Fault?
  }

  static var judgeMode: CallMode { .direct }

  private let fault: Fault?
  init(_ configuration: Configuration, _ context: Context) { fault = configuration.fault }

  var programs: [Program] {
    [
      Program(fault == .namesBadPrograms ? "Mutable:open" : "mutable://open"),
      Program("hash://sha256", isCanonical: true),
    ]
  }

  func judge(_ call: JudgeCall) {
    guard call.message.data.bytes.first == 0x5B else { return call.accept() }
    call.reject(fault == .refusesSilently ? "" : "lists are not taken here")
  }

  func canonical(_ uri: BorrowedBytes, _ write: (BorrowedBytes) -> Void) {
    let text = String(decoding: uri, as: UTF8.self)
    let canonical = fault == .turnsInCircles ? text + "/again" : text.lowercased()
    if canonical != text { Array(canonical.utf8).withUnsafeBufferPointer(write) }
  }
}
