import Kernel
import ManagedNode
import MessageCrypto

/// A configuration of a managed node that an operator wrote: from a file or from standard input.
struct ConfigurationInput {
  let configuration: ManagedConfiguration
  /// As it was written: members that nobody here knows are signed, too.
  let bytes: [UInt8]

  /// Throws with all problems. Warns of what has no effect.
  init(_ path: String?) throws {
    let input = try MessageInput(path)
    let problems = ManagedConfiguration.problems(in: input.bytes)
    guard problems.isEmpty else {
      let lines = problems.map { "\n" + Output.printable($0.description) }.joined()
      throw CommandFailure(.configuration, "the configuration in \(input.place) cannot be used.\(lines)")
    }
    bytes = input.bytes
    do throws(DocumentError) {
      configuration = try ManagedConfiguration(input.bytes)
    } catch { throw CommandFailure(.configuration, "the configuration in \(input.place) cannot be used.\n\(error)") }
    for notice in configuration.notices { Output.warning(Output.printable(notice.description)) }
    if Hexadecimal.decode(configuration.nodeId)?.count != Ed25519.publicKeySizeBytes {
      Output.warning("/nodeId: a node's id is its ed25519 public key, 64 hexadecimal digits, and this is none")
    }
  }

  /// Where its node looks for it.
  func document(by signer: Ed25519.KeyPair) -> ManagedDocument {
    .config(operatorKey: signer.publicKeyHex, nodeId: configuration.nodeId)
  }

  func sealed(by signer: Ed25519.KeyPair, to recipient: [UInt8]?) throws -> [UInt8] {
    if recipient == nil { warnOfPasswords() }
    do throws(ManagedMessageError) {
      return try document(by: signer).seal(bytes, signers: [signer], encryptingTo: recipient)
    } catch { throw CommandFailure(error) }
  }

  private func warnOfPasswords() {
    let urls =
      configuration.backends.enumerated().map { ("/backends/\($0.offset)/url", $0.element.url) }
      + configuration.peers.enumerated().map { ("/peers/\($0.offset)/url", $0.element.url) }
    for (pointer, url) in urls where Redaction.redact(url) != url {
      Output.warning("\(pointer) holds a secret, and everybody who can read the record sees it: --encrypt-to")
    }
  }
}
