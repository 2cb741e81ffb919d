import ArgumentParser
import MessageCrypto
import MessageEncryption

struct Sign: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Sign a message.",
    discussion: """
      The message is JSON, from a file or standard input. What is printed is the authenticated message: auth with an \
      entry for each key, and the payload as JavaScript would print it, over which the signatures are.
      """)

  @Option(
    name: .long,
    help: ArgumentHelp("The file of an ed25519 key, - or env:NAME. May be given several times.", valueName: "path"))
  var key: [String]

  @Flag(name: .long, help: "The message is signed already: add signatures to it.") var add = false

  @Option(
    name: .long,
    help: ArgumentHelp("Encrypt the message to this x25519 key first, and sign the outcome.", valueName: "public-key"))
  var encryptTo: String?

  @Argument(help: "The message's file; - or left out: standard input.") var file: String?
  // The answer is JSON in any case; what goes wrong is, too, when it is asked for.
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if key.isEmpty { throw ValidationError("Signing needs a key: --key FILE.") }
    if add, encryptTo != nil {
      throw ValidationError("Give --add or --encrypt-to, not both: a signed message is not encrypted any more.")
    }
    let readsMessage = file == nil || file == SecretInput.standardInput
    if key.count(where: { $0 == SecretInput.standardInput }) + (readsMessage ? 1 : 0) > 1 {
      throw ValidationError("Standard input gives one thing: a key or the message.")
    }
  }

  func run() async throws {
    let signers = try KeyInput.signers(key)
    let message = try MessageInput(file)
    var signed: [UInt8] = []
    do {
      if let encryptTo {
        let recipient = try KeyInput.publicKey(encryptTo, option: "--encrypt-to")
        let text = try message.plaintext(asText: false)
        let payload = try text.withUnsafeBytes { text in
          try recipient.withUnsafeBytes { try EncryptedPayload.encrypt(text, to: $0) }
        }
        SignedEncryptedMessage.append(payload, signers: signers, to: &signed)
      } else if add {
        try message.withAuthenticated { former in
          guard let former else {
            throw CommandFailure(
              .refused, "the message in \(message.place) is not signed: it is no object with auth and payload.")
          }
          let verification = try former.verify()
          guard verification.invalidCount == 0 else {
            throw CommandFailure(
              .refused, "\(verification.invalidCount) entries of the message's auth are not valid, so none is added.")
          }
          try AuthenticatedMessage.append(payload: former.payload, signers: signers, addingTo: former, to: &signed)
        }
      } else {
        try message.withValue { try AuthenticatedMessage.append(payload: $0, signers: signers, to: &signed) }
      }
    } catch let error as AuthenticationError {
      throw CommandFailure(.usage, "the message in \(message.place) cannot be signed. \(error)")
    } catch let error as EncryptionError {
      throw CommandFailure(error)
    }
    Output.bytes(signed + [0x0A])
  }
}
