import ArgumentParser
import MessageCrypto

/// Who signs what nodes are managed by.
struct OperatorKeyOptions: ParsableArguments {
  @Option(
    name: .long, help: ArgumentHelp("The file of the operator's ed25519 key, - or env:NAME.", valueName: "path"))
  var key: String

  func signer() throws -> Ed25519.KeyPair {
    // One place gives one key, or throws.
    try KeyInput.signers([key])[0]
  }
}

/// Who reads what is published.
struct EncryptionOptions: ParsableArguments {
  @Option(
    name: .long, help: ArgumentHelp("Encrypt it to this x25519 key of the node first.", valueName: "public-key"))
  var encryptTo: String?

  func recipient() throws -> [UInt8]? { try encryptTo.map { try KeyInput.publicKey($0, option: "--encrypt-to") } }
}

/// What opens what was encrypted.
struct DecryptionOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp("The file of the x25519 key that it is encrypted to, - or env:NAME.", valueName: "path"))
  var decryptionKey: String?

  func recipient() throws -> X25519.KeyPair? { try decryptionKey.map { try KeyInput.recipient($0) } }
}

extension KeyInput {
  /// A public key among the arguments, as it stands in URIs: accounts compare it as text.
  static func publicKeyText(_ text: String, option: String) throws -> String {
    _ = try publicKey(text, option: option)
    return text
  }
}
