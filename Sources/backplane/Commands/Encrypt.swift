import ArgumentParser
import MessageCrypto
import MessageEncryption

struct Encrypt: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Encrypt a message.",
    discussion: """
      To an x25519 key, or with a password or a key that both sides have. The message is JSON, from a file or standard \
      input; with --text it is text.
      """)

  @Option(name: .long, help: ArgumentHelp("The recipient's x25519 key.", valueName: "public-key")) var to: String?
  @OptionGroup var symmetric: SymmetricKeyOptions
  @Flag(name: .long, help: "The message is text.") var text = false
  @Argument(help: "The message's file; - or left out: standard input.") var file: String?
  // The answer is JSON in any case; what goes wrong is, too, when it is asked for.
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (to != nil) != symmetric.isGiven else {
      throw ValidationError("Give one of --to, --password-file and --key-hex-file.")
    }
    if symmetric.readsStandardInput, file == nil || file == SecretInput.standardInput {
      throw ValidationError("Standard input gives one thing: the key or the message.")
    }
  }

  func run() async throws {
    let message = try MessageInput(file).plaintext(asText: text)
    let key = try symmetric.key()
    let recipient = try to.map { try KeyInput.publicKey($0, option: "--to") } ?? []
    var encrypted: [UInt8] = []
    do {
      let payload = try message.withUnsafeBytes { message in
        if let key { return try EncryptedPayload.encrypt(message, key: key) }
        return try recipient.withUnsafeBytes { try EncryptedPayload.encrypt(message, to: $0) }
      }
      payload.append(to: &encrypted)
    } catch let error as EncryptionError {
      throw CommandFailure(error)
    }
    Output.bytes(encrypted + [0x0A])
  }
}
