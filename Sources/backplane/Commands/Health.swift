import ArgumentParser
import Foundation

struct Health: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Ask a node whether it is healthy.",
    discussion: """
      For health checks of containers: the status is 0 when the node says that it is healthy, 1 when it says that it is \
      not, and 69 when nobody answers. Without --node and BACKPLANE_NODE it asks the node of this machine that listens on \
      PORT, which a container has in its environment, or on 9942.
      """)

  @Option(name: .long, help: ArgumentHelp("The node's URL.", valueName: "url")) var node: String?
  @Option(name: .long, help: ArgumentHelp("Seconds to wait for the answer.", valueName: "seconds")) var timeout = 4
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...3600).contains(timeout) else { throw ValidationError("--timeout must be from 1 to 3600 seconds.") }
  }

  func run() async throws {
    let environment = ProcessInfo.processInfo.environment
    func variable(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    let url = node ?? variable("BACKPLANE_NODE") ?? "http://127.0.0.1:\(variable("PORT") ?? "9942")"
    let response = try await NodeClient(url: url, timeoutSeconds: timeout).send(.GET, "/api/v1/health")
    let status = JSONValue.parse(response.body)?["status"]?.string
    let isHealthy = response.status == 200 && status == "healthy"
    if output.json, response.isJSON {
      try response.printJSON()
    } else {
      Output.line(Output.printable(status ?? "the node answered status \(response.status)"))
    }
    if !isHealthy { throw CommandFailure.answered(.refused) }
  }
}
