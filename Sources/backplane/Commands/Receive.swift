import ArgumentParser
import Foundation

struct Receive: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Send a message to a node.",
    discussion: """
      The data is JSON, sent byte for byte: as the second argument, from --file, or else from standard input. With --text \
      it is sent as a JSON string, with --binary as bytes.
      """)

  @Argument(help: "The message's URI, such as mutable://open/greeting.") var uri: String
  @Argument(help: "The data; left out, it is read from --file or standard input.") var data: String?
  @Option(name: .long, help: ArgumentHelp("Read the data from a file.", valueName: "path")) var file: String?
  @Flag(name: .long, help: "The data is text.") var text = false
  @Flag(name: .long, help: "The data is bytes.") var binary = false
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if text, binary { throw ValidationError("Give --text or --binary, not both.") }
    if data != nil, file != nil { throw ValidationError("Give the data or --file, not both.") }
  }

  func run() async throws {
    let client = try node.client()
    var body = Array(#"{"tx":["#.utf8) + Array(JSONValue.string(uri).text.utf8) + [UInt8(ascii: ",")]
    body += try payload()
    body += Array("]}".utf8)
    let response = try await client.send(.POST, "/api/v1/receive", body: body)
    let isAccepted = response.status == 200 && JSONValue.parse(response.body)?["accepted"] == .bool(true)
    if output.json {
      try response.printJSON()
      if !isAccepted { throw CommandFailure.answered(response.failure("").status) }
      return
    }
    guard isAccepted else { throw response.failure("the node did not accept \(uri)") }
    Output.line("Accepted \(Output.printable(uri)).")
  }

  private func payload() throws -> [UInt8] {
    let bytes = try input()
    if binary {
      let base64 = Data(bytes).base64EncodedString()
      return Array(#"{"__b3nd_binary__":true,"encoding":"base64","data":"\#(base64)"}"#.utf8)
    }
    guard let string = String(validating: bytes, as: UTF8.self) else {
      throw CommandFailure(.usage, "the data is not UTF-8. Send bytes with --binary.")
    }
    if text { return Array(JSONValue.string(string).text.utf8) }
    guard RecordBody.isJSON(bytes) else {
      throw CommandFailure(.usage, "the data is not JSON. Quote it as JSON ('\"hello\"'), or send it with --text.")
    }
    return bytes
  }

  private func input() throws -> [UInt8] {
    if let data { return Array(data.utf8) }
    do {
      guard let file else { return Array(try FileHandle.standardInput.readToEnd() ?? Data()) }
      return Array(try Data(contentsOf: URL(fileURLWithPath: file)))
    } catch {
      throw CommandFailure(
        .usage, "the data cannot be read from \(file ?? "standard input"): \(error.localizedDescription)")
    }
  }
}
