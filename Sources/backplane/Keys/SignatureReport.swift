import ArgumentParser
import MessageCrypto

/// `--by` and `--any`: whose signatures a message needs.
struct SignatureOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "This public key must have signed; other entries do not matter. May be given several times.",
      valueName: "public-key"))
  var by: [String] = []

  @Flag(name: .long, help: "One valid signature is enough; without it and --by every entry must be valid.")
  var any = false

  func validate() throws {
    if any, !by.isEmpty { throw ValidationError("Give --by or --any, not both.") }
  }

  /// Why the message is not signed as it should be; nil when it is.
  func problem(_ verification: AuthenticatedMessage.Verification) throws -> String? {
    guard verification.isByAnyone else {
      return verification.invalidCount == 0
        ? "the message has no signature: its auth is empty." : "no signature of the message is valid."
    }
    for text in by where try !verification.signers.contains(KeyInput.publicKey(text, option: "--by")) {
      return "the message has no valid signature by \(text.lowercased())."
    }
    guard verification.isByAll || any || !by.isEmpty else {
      return verification.invalidCount == 1
        ? "one entry of the message's auth is not valid."
        : "\(verification.invalidCount) entries of auth are not valid."
    }
    return nil
  }
}

extension AuthenticatedMessage.Verification {
  var signerTexts: [String] { signers.map { Hexadecimal.text($0) } }

  /// Members of an answer in JSON.
  func members(isVerified: Bool) -> [String: JSONValue] {
    [
      "verified": .bool(isVerified), "signers": .array(signerTexts.map { .string($0) }),
      "invalid": .integer(Int64(invalidCount)),
    ]
  }
}
