import ArgumentParser

struct Delete: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(abstract: "Delete a record.")

  @Argument(help: "The record's URI.") var uri: String
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let response = try await node.client().send(.DELETE, "/api/v1/delete" + RecordPath.path(of: uri))
    let isDeleted = response.status == 200 && JSONValue.parse(response.body)?["success"] == .bool(true)
    if output.json {
      try response.printJSON()
      if !isDeleted { throw CommandFailure.answered(response.failure("").status) }
      return
    }
    guard isDeleted else { throw response.failure("the node did not delete \(uri)") }
    Output.line("Deleted \(Output.printable(uri)).")
  }
}
