import ArgumentParser
import ManagedNode

struct ConfigPull: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "pull", abstract: "Print the configuration that a managed node finds.",
    discussion: """
      It is read at the node that keeps configurations (--node), must be signed by the operator, and is checked by the \
      rules of the node that it is for. It is printed as the operator wrote it.
      """)

  @Option(name: .long, help: ArgumentHelp("The operator's ed25519 key.", valueName: "public-key"))
  var `operator`: String
  @Option(name: .long, help: ArgumentHelp("The managed node's ed25519 key.", valueName: "public-key"))
  var nodeId: String
  @OptionGroup var decryption: DecryptionOptions
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let document = ManagedDocument.config(
      operatorKey: try KeyInput.publicKeyText(`operator`, option: "--operator"), nodeId: nodeId)
    let client = DocumentClient(node: try node.client())
    let (opened, timestampMs) = try await client.open(document, decryptionKey: decryption.recipient())
    let payload = opened.payload.bytes
    do throws(DocumentError) {
      for notice in try ManagedConfiguration(payload).notices { Output.warning(Output.printable(notice.description)) }
    } catch { throw CommandFailure(document.invalid(error)) }
    guard output.json else { return Output.bytes(payload + [0x0A]) }
    let members = JSONValue.object([
      "uri": .string(document.uri), "timestamp_ms": .integer(timestampMs), "encrypted": .bool(opened.wasEncrypted),
    ]).text
    // As the operator wrote it, so that no number in it changes.
    Output.bytes(Array(#"{"config":"#.utf8) + payload + Array(",".utf8) + Array(members.dropFirst().utf8) + [0x0A])
  }
}
