import ArgumentParser
import MessageCrypto
import MessageEncryption

/// A key that both sides have: its digits, or a password that it is made of.
struct SymmetricKeyOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp("A file with a password, - or env:NAME; its last line break does not count.", valueName: "path"))
  var passwordFile: String?

  @Option(name: .long, help: ArgumentHelp("The salt that goes with the password; it is no secret.", valueName: "text"))
  var salt: String?

  @Option(name: .long, help: "Iterations of PBKDF2 that go with the password.")
  var iterations: Int = PasswordKey.iterations

  @Option(
    name: .long,
    help: ArgumentHelp("A file with the 64 hexadecimal digits of a key, - or env:NAME.", valueName: "path"))
  var keyHexFile: String?

  func validate() throws {
    if passwordFile != nil, keyHexFile != nil {
      throw ValidationError("Give --password-file or --key-hex-file, not both.")
    }
    if passwordFile != nil, salt == nil { throw ValidationError("--password-file needs --salt.") }
    if passwordFile == nil, salt != nil { throw ValidationError("--salt goes with --password-file.") }
  }

  var isGiven: Bool { passwordFile != nil || keyHexFile != nil }
  var readsStandardInput: Bool { [passwordFile, keyHexFile].contains(SecretInput.standardInput) }

  /// Nil when neither is given.
  func key() throws -> SecretBytes? {
    if let passwordFile {
      let password = try SecretInput.read(passwordFile, what: "the password").withoutLastLineBreak
      do throws(EncryptionError) {
        return try PasswordKey.derive(password, salt: Array((salt ?? "").utf8), iterations: iterations)
      } catch { throw CommandFailure(error) }
    }
    guard let keyHexFile else { return nil }
    let text = try SecretInput.read(keyHexFile, what: "the key").trimmed
    return try SecretBytes(count: X25519.keySizeBytes) { key in
      guard text.withUnsafeBytes({ Hexadecimal.decode($0, into: key) }) else {
        throw CommandFailure(.usage, "the key in \(keyHexFile) is not 64 hexadecimal digits.")
      }
    }
  }
}

extension CommandFailure {
  init(_ error: EncryptionError) {
    switch error {
    case .missingEphemeralPublicKey:
      self.init(
        .refused,
        "\(error): the message is encrypted with a password or a key that both sides have, not to a public key.")
    case .decryptionFailed:
      self.init(.refused, "\(error): it was not encrypted to this key, or it was changed on the way.")
    case .notEncrypted: self.init(.refused, "\(error)")
    case .unusablePublicKey, .keySize, .iterations, .emptySecret, .tooLarge: self.init(.usage, "\(error)")
    }
  }
}
