import ArgumentParser
import MessageCrypto

struct Verify: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Say who signed a message.",
    discussion: """
      Exits with 0 when every entry of auth is valid and there is one; with --by when those keys signed, with --any when \
      anybody did. Else with 1.
      """)

  @OptionGroup var signatures: SignatureOptions
  @Argument(help: "The message's file; - or left out: standard input.") var file: String?
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let message = try MessageInput(file)
    let verification: AuthenticatedMessage.Verification = try message.withAuthenticated { found in
      guard let found else {
        throw CommandFailure(
          .refused, "the message in \(message.place) is not signed: it is no object with auth and payload.")
      }
      return try found.verify()
    }
    let problem = try signatures.problem(verification)
    if output.json {
      Output.line(JSONValue.object(verification.members(isVerified: problem == nil)).text)
      if problem != nil { throw CommandFailure.answered(.refused) }
      return
    }
    for signer in verification.signerTexts { Output.line("Signed by \(signer).") }
    if let problem { throw CommandFailure(.refused, problem) }
    if verification.invalidCount > 0 { Output.warning("\(verification.invalidCount) entries of auth are not valid.") }
  }
}
