import ArgumentParser
import Foundation

/// Which node a client command talks to.
struct NodeOptions: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("The node's URL (BACKPLANE_NODE; http://localhost:9942).", valueName: "url"))
  var node: String?

  @Option(name: .long, help: ArgumentHelp("Seconds to wait for the answer.", valueName: "seconds"))
  var timeout: Int = 30

  func validate() throws {
    guard (1...3600).contains(timeout) else { throw ValidationError("--timeout must be from 1 to 3600 seconds.") }
  }

  func client() throws -> NodeClient {
    let variable = ProcessInfo.processInfo.environment["BACKPLANE_NODE"] ?? ""
    let url = node ?? (variable.isEmpty ? "http://localhost:9942" : variable)
    return try NodeClient(url: url, timeoutSeconds: timeout)
  }
}

extension NodeClient.Response {
  /// What the node says is wrong, from its `error` or else from the status.
  var errorText: String {
    if isJSON, let text = JSONValue.parse(body)?["error"]?.string, !text.isEmpty { return Output.printable(text) }
    let text = body.count <= 200 ? String(validating: body, as: UTF8.self) : nil
    guard let text, !text.isEmpty, !isJSON else { return "status \(status)" }
    return "status \(status): \(Output.printable(text))"
  }

  /// The failure an unwanted status stands for.
  func failure(_ what: String) -> CommandFailure {
    switch status {
    case 400..<500: CommandFailure(.refused, "\(what): \(errorText)")
    case 502, 503, 504: CommandFailure(.unavailable, "\(what): \(errorText)")
    default: CommandFailure(.internal, "\(what): the node answered \(errorText)")
    }
  }

  /// Prints the node's own answer on one line, for `--json`.
  func printJSON() throws {
    guard isJSON else { throw failure("the node did not answer in JSON") }
    Output.bytes(body + (body.last == 0x0A ? [] : [0x0A]))
  }
}
