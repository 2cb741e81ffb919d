import ArgumentParser
import Foundation

struct Read: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Print a record's data.",
    discussion: """
      JSON data is printed as the node keeps it, bytes as they are. With --json: the whole record with its time, and bytes \
      as base64.
      """)

  @Argument(help: "The record's URI.") var uri: String
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let response = try await node.client().send(.GET, "/api/v1/read" + RecordPath.path(of: uri))
    guard response.status == 200 else { throw response.failure("the node has no answer for \(uri)") }
    // A record whose name ends in .json may be bytes of type application/json; a record as JSON has `ts` and `data`.
    if response.isJSON, let data = RecordBody.member("data", of: response.body),
      RecordBody.member("ts", of: response.body) != nil
    {
      if output.json { try response.printJSON() } else { Output.bytes(Array(data) + [0x0A]) }
    } else if output.json {
      Output.line(
        JSONValue.object([
          "content_type": .string(response.contentType),
          "data_base64": .string(Data(response.body).base64EncodedString()),
        ]).text)
    } else {
      Output.bytes(response.body)
    }
  }
}
