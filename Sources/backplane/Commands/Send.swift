import ArgumentParser
import JSONText
import MessageCrypto

struct Send: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Send an envelope: several records in one message, signed if there is a key.",
    discussion: """
      The envelope is {"auth"?,"payload":{"inputs","outputs"}}. Its URI is that of its content, \
      hash://sha256/DIGEST, unless one is given. All its outputs are accepted, or none.
      """)

  @Argument(help: "The envelope's URI; left out, --program and the digest.") var uri: String?

  @Option(name: .long, help: ArgumentHelp("The program whose URIs end in a digest.", valueName: "uri"))
  var program: String?

  @Option(
    name: .customLong("output"),
    help: ArgumentHelp(
      "A record: its URI and JSON, or @ and a file with it (@- for standard input). May be given several times.",
      valueName: "uri=json"))
  var outputs: [String]

  @Option(
    name: .customLong("input"),
    help: ArgumentHelp("A URI that goes into inputs. May be given several times.", valueName: "uri"))
  var inputs: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp("The file of an ed25519 key, - or env:NAME. May be given several times.", valueName: "path"))
  var key: [String] = []

  @Flag(name: .long, help: "Print what would be sent, and send nothing.") var dryRun = false
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if outputs.isEmpty { throw ValidationError("An envelope needs a record: --output URI=JSON.") }
    if uri != nil, program != nil { throw ValidationError("Give the envelope's URI or --program, not both.") }
    let readers = key.count { $0 == SecretInput.standardInput } + outputs.count { $0.hasSuffix("=@-") }
    if readers > 1 { throw ValidationError("Standard input gives one thing: a key or a record.") }
  }

  func run() async throws {
    let envelope = try Envelope(inputs: inputs, outputs: outputs, signers: KeyInput.signers(key))
    let target = uri ?? "\(program ?? "hash://sha256")/\(envelope.digestHex)"
    var body = Array(#"{"tx":["#.utf8)
    JSONWriter.appendString(target, to: &body)
    body += [UInt8(ascii: ",")] + envelope.text + Array("]}".utf8)
    if dryRun { return Output.bytes(body + [0x0A]) }
    let response = try await node.client().send(.POST, "/api/v1/receive", body: body)
    let isAccepted = response.status == 200 && JSONValue.parse(response.body)?["accepted"] == .bool(true)
    if output.json {
      guard response.isJSON, let members = JSONValue.parse(response.body) else {
        throw response.failure("the node did not answer in JSON")
      }
      Output.line(JSONValue.object(["uri": .string(target), "answer": members]).text)
      if !isAccepted { throw CommandFailure.answered(response.failure("").status) }
      return
    }
    guard isAccepted else { throw response.failure("the node did not accept \(target)") }
    Output.line("Accepted \(Output.printable(target)).")
  }
}
