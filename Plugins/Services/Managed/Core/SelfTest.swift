import ManagedNode
import MessageCrypto
import PluginAPI

enum SelfTest {
  static func run(_ scratchDirectory: String) throws {
    let signer = Ed25519.KeyPair()
    let recipient = X25519.KeyPair()
    let document = ManagedDocument.status(nodeId: signer.publicKeyHex)
    let text = Array(#"{"a":1}"#.utf8)
    let message = try document.seal(text, signers: [signer], encryptingTo: recipient.publicKey)
    guard try document.open(message, decryptionKey: recipient).payload.bytes == text else {
      throw Failure.internal("a message that was signed and encrypted here cannot be opened")
    }
    let files = StateFiles(scratchDirectory)
    try files.write("self-test/message.json", message)
    guard files.read("self-test/message.json") == message else {
      throw Failure.internal("a file that was written to \(scratchDirectory) does not come back")
    }
  }
}
