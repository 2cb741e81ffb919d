import ComposeText
import Foundation
import Glibc
import MessageCrypto

/// The folder with the private keys of a network: `operator.signing.pem`, `operator.encryption.pem`, and the same two of
/// every node under the name of its service. Each is a PEM with a line `PUBLIC_KEY_HEX=…` behind it.
struct NetworkKeys: Sendable {
  static let operatorName = "operator"
  static let folderName = "keys"

  let directory: String

  enum Purpose: String {
    case signing, encryption

    var type: KeyType { self == .signing ? .ed25519 : .x25519 }
  }

  func path(_ name: String, _ purpose: Purpose) -> String { "\(directory)/\(name).\(purpose.rawValue).pem" }

  // MARK: Reading

  /// Nil when there is no such file.
  func signing(_ name: String) throws -> Ed25519.KeyPair? {
    guard let key = try key(name, .signing), case .ed25519(let pair) = key else { return nil }
    return pair
  }

  /// Nil when there is no such file.
  func encryption(_ name: String) throws -> X25519.KeyPair? {
    guard let key = try key(name, .encryption), case .x25519(let pair) = key else { return nil }
    return pair
  }

  /// The file's text as it goes into the environment; nil when there is no such file.
  func pem(_ name: String) throws -> SecretBytes? { try key(name, .signing)?.pem }

  /// PKCS#8 in hexadecimal; nil when there is no such file.
  func encryptionHex(_ name: String) throws -> SecretBytes? { try key(name, .encryption)?.text(.pkcs8Hex) }

  private func key(_ name: String, _ purpose: Purpose) throws -> PrivateKey? {
    let path = path(name, purpose)
    guard access(path, F_OK) == 0 else { return nil }
    let key = try KeyInput.read(path).key
    guard key.type == purpose.type else {
      throw CommandFailure(
        .configuration,
        "\(path) holds an \(key.type.rawValue) key, but for \(purpose.rawValue) it must be \(purpose.type.rawValue).")
    }
    return key
  }

  // MARK: Making

  /// Makes the folder, with a `.gitignore` that keeps all of it out of commits.
  func makeFolder() throws {
    do {
      try FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
      let ignore = directory + "/.gitignore"
      if access(ignore, F_OK) != 0 { try Data("*\n".utf8).write(to: URL(fileURLWithPath: ignore)) }
    } catch {
      throw CommandFailure(.usage, "the folder \(directory) cannot be made: \(error.localizedDescription)")
    }
  }

  /// Writes a new key and gives its public key in hexadecimal; refuses when the file is there.
  func make(_ name: String, _ purpose: Purpose) throws -> String {
    let key: PrivateKey = purpose == .signing ? .ed25519(Ed25519.KeyPair()) : .x25519(X25519.KeyPair())
    let publicKey = Array("PUBLIC_KEY_HEX=\(key.publicKeyHex)".utf8)
    try SecretOutput.write(
      [key.pem, publicKey.withUnsafeBytes { SecretBytes(copying: $0) }], toFile: path(name, purpose), replaces: false)
    return key.publicKeyHex
  }
}
