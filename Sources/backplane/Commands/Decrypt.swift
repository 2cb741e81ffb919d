import ArgumentParser
import Foundation
import JSONText
import MessageCrypto
import MessageEncryption

struct Decrypt: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Decrypt a message.",
    discussion: """
      The message is an encrypted payload, or an authenticated message with one; its signatures are then verified, as \
      `backplane verify` does it, and who signed goes to standard error. A message that nobody signed is nobody's word.
      """)

  @Option(name: .long, help: ArgumentHelp("The file of an x25519 key, - or env:NAME.", valueName: "path"))
  var key: String?

  @OptionGroup var symmetric: SymmetricKeyOptions
  @OptionGroup var signatures: SignatureOptions
  @Flag(name: .long, help: "Decrypt a signed message whatever its signatures are worth.") var unverified = false
  @Flag(name: .long, help: "What was encrypted is text: print it as it is, not as JSON.") var text = false
  @Argument(help: "The message's file; - or left out: standard input.") var file: String?
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (key != nil) != symmetric.isGiven else {
      throw ValidationError("Give one of --key, --password-file and --key-hex-file.")
    }
    if symmetric.readsStandardInput || key == SecretInput.standardInput,
      file == nil || file == SecretInput.standardInput
    {
      throw ValidationError("Standard input gives one thing: the key or the message.")
    }
    if text, output.json { throw ValidationError("Give --text or --json, not both.") }
    if unverified, !signatures.by.isEmpty { throw ValidationError("Give --by or --unverified, not both.") }
  }

  func run() async throws {
    let message = try MessageInput(file)
    var verification: AuthenticatedMessage.Verification?
    let payload = try message.withAuthenticated { found in
      verification = try found?.verify()
      if let found { return try Self.payload(found.payload) }
      return try message.withValue { try Self.payload($0) }
    }
    var problem: String?
    if let verification {
      problem = try signatures.problem(verification)
    } else if !signatures.by.isEmpty || signatures.any {
      problem = "the message is not signed."
    }
    if let problem, !unverified { throw CommandFailure(.refused, "nothing was decrypted: \(problem)") }
    let plain = try decrypt(payload)
    if output.json { return printJSON(plain, verification, isVerified: problem == nil) }
    let printed = text ? try Self.unquoted(plain) : plain
    for signer in verification?.signerTexts ?? [] { Output.error("Signed by \(signer).") }
    if let problem { Output.warning(problem) }
    Output.bytes(printed + [0x0A])
  }

  private static func unquoted(_ text: [UInt8]) throws -> [UInt8] {
    let string = text.withUnsafeBytes { try? JSONScanner().scan($0).get().text }
    guard let string else { throw CommandFailure(.refused, "what was encrypted is no text: leave out --text.") }
    return Array(string.utf8)
  }

  private static func payload(_ value: JSONSlice) throws -> EncryptedPayload {
    do throws(EncryptionError) { return try EncryptedPayload(value) } catch { throw CommandFailure(error) }
  }

  private func decrypt(_ payload: EncryptedPayload) throws -> [UInt8] {
    do {
      if let key { return try payload.decrypt(with: try KeyInput.recipient(key)) }
      guard let key = try symmetric.key() else { throw CommandFailure(.usage, "there is no key to decrypt with.") }
      return try payload.decrypt(key: key)
    } catch let error as EncryptionError {
      throw CommandFailure(error)
    }
  }

  /// The text stands in the answer as it is when it is JSON, so that no number in it changes.
  private func printJSON(_ text: [UInt8], _ verification: AuthenticatedMessage.Verification?, isVerified: Bool) {
    let members = verification?.members(isVerified: isVerified) ?? [:]
    let isJSON = RecordBody.isJSON(text)
    let data = isJSON ? text : Array(JSONValue.string(Data(text).base64EncodedString()).text.utf8)
    let head = isJSON ? #"{"data":"# : #"{"data_base64":"#
    let tail = members.isEmpty ? "}" : "," + JSONValue.object(members).text.dropFirst()
    Output.bytes(Array(head.utf8) + data + Array(tail.utf8) + [0x0A])
  }
}
