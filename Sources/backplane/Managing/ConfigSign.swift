import ArgumentParser
import MessageCrypto

struct ConfigSign: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "sign", abstract: "Sign the configuration of a managed node.",
    discussion: """
      The configuration is checked first, by the rules of the node that will read it. What is printed is the message that \
      `config publish` would send; no node is asked.
      """)

  @Argument(help: "The configuration's file (JSON); - or left out: standard input.") var file: String?
  @OptionGroup var key: OperatorKeyOptions
  @OptionGroup var encryption: EncryptionOptions
  @Option(
    name: [.customShort("o"), .customLong("output")],
    help: ArgumentHelp("Write to this file, which only its owner can read.", valueName: "path"))
  var path: String?
  // The answer is JSON in any case; what goes wrong is, too, when it is asked for.
  @OptionGroup var output: OutputOptions

  func validate() throws { try requireOneReader(of: file, key.key) }

  func run() async throws {
    let input = try ConfigurationInput(file)
    let sealed = try input.sealed(by: key.signer(), to: encryption.recipient())
    guard let path else { return Output.bytes(sealed + [0x0A]) }
    let bytes = sealed.withUnsafeBytes { SecretBytes(copying: $0) }
    try SecretOutput.write([bytes], toFile: path, replaces: true)
  }
}

struct ConfigPublish: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "publish", abstract: "Sign the configuration of a managed node and send it to where the node looks.",
    discussion: """
      The configuration is checked, signed, sent to the node that keeps configurations (--node) under the URI of the \
      operator's key and the configuration's nodeId, and read back. The managed node takes it up when it looks next.
      """)

  @Argument(help: "The configuration's file (JSON); - or left out: standard input.") var file: String?
  @OptionGroup var key: OperatorKeyOptions
  @OptionGroup var encryption: EncryptionOptions
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws { try requireOneReader(of: file, key.key) }

  func run() async throws {
    let input = try ConfigurationInput(file)
    let signer = try key.signer()
    let document = input.document(by: signer)
    let sealed = try input.sealed(by: signer, to: encryption.recipient())
    let timestampMs = try await DocumentClient(node: node.client()).publish(sealed, at: document)
    guard !output.json else {
      return Output.line(
        JSONValue.object([
          "uri": .string(document.uri), "timestamp_ms": .integer(timestampMs),
          "encrypted": .bool(encryption.encryptTo != nil), "node_id": .string(input.configuration.nodeId),
          "operator": .string(signer.publicKeyHex),
        ]).text)
    }
    let name = Output.printable(input.configuration.name)
    Output.line("Published the configuration of \(name) at \(Output.printable(document.uri)).")
  }
}

/// Standard input gives one thing.
private func requireOneReader(of file: String?, _ key: String) throws {
  if key == SecretInput.standardInput, file == nil || file == SecretInput.standardInput {
    throw ValidationError("Standard input gives one thing: the key or the configuration.")
  }
}
