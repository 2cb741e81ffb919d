import ArgumentParser
import Foundation
import ManagedNode
import MessageCrypto

struct Update: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Announce software to managed nodes.", subcommands: [UpdatePublish.self])
}

struct UpdatePublish: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "publish", abstract: "Sign an update and send it to where managed nodes look for it.",
    discussion: """
      Every node decides by its own configuration (updates: announce, stage or apply) what becomes of it. The module must \
      have the checksum that is announced.
      """)

  @OptionGroup var key: OperatorKeyOptions
  @Option(
    name: .long,
    help: ArgumentHelp("A managed node's ed25519 key. May be given several times.", valueName: "public-key"))
  var nodeId: [String]
  @Option(name: .customLong("version"), help: ArgumentHelp("The module's version, any text.", valueName: "text"))
  var moduleVersion: String
  @Option(name: .long, help: ArgumentHelp("Where nodes fetch the module.", valueName: "url")) var moduleUrl: String
  @Option(name: .long, help: ArgumentHelp("The module's SHA-256.", valueName: "hex")) var checksum: String?
  @Option(name: .long, help: ArgumentHelp("The module itself, of which the SHA-256 is taken.", valueName: "path"))
  var file: String?
  @Option(name: .long, help: ArgumentHelp("What changed.", valueName: "text")) var releaseNotes: String?
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if nodeId.isEmpty { throw ValidationError("An update is for somebody: --node-id PUBLIC-KEY.") }
    if moduleVersion.isEmpty || moduleUrl.isEmpty { throw ValidationError("--version and --module-url need a text.") }
    guard (checksum != nil) != (file != nil) else { throw ValidationError("Give one of --checksum and --file.") }
  }

  func run() async throws {
    let signer = try key.signer()
    for id in nodeId { _ = try KeyInput.publicKey(id, option: "--node-id") }
    let update = UpdateManifest(
      version: moduleVersion, moduleUrl: moduleUrl, checksum: try checksum?.lowercased() ?? Self.digest(of: file ?? ""),
      releaseNotes: releaseNotes)
    guard update.hasUsableChecksum else {
      throw CommandFailure(.usage, "--checksum needs a SHA-256: 64 hexadecimal digits.")
    }
    let client = DocumentClient(node: try node.client())
    var published: [JSONValue] = []
    var failed: [(id: String, failure: CommandFailure)] = []
    for id in nodeId {
      let document = ManagedDocument.update(operatorKey: signer.publicKeyHex, nodeId: id)
      do {
        let sealed: [UInt8]
        do throws(ManagedMessageError) {
          sealed = try document.seal(update.text, signers: [signer])
        } catch { throw CommandFailure(error) }
        let timestampMs = try await client.publish(sealed, at: document)
        published.append(
          .object([
            "node_id": .string(id), "uri": .string(document.uri), "timestamp_ms": .integer(timestampMs),
          ]))
        if !output.json { Output.line("Published version \(Output.printable(moduleVersion)) for \(id).") }
      } catch let failure as CommandFailure {
        // One node's trouble is not the next one's.
        failed.append((id, failure))
        if !output.json { Output.error("backplane: \(id): \(failure.message)") }
      }
    }
    if output.json { printJSON(update, published, failed) }
    if let first = failed.first { throw CommandFailure.answered(first.failure.status) }
  }

  private func printJSON(
    _ update: UpdateManifest, _ published: [JSONValue], _ failed: [(id: String, failure: CommandFailure)]
  ) {
    Output.line(
      JSONValue.object([
        "version": .string(update.version), "module_url": .string(update.moduleUrl),
        "checksum": .string(update.checksum ?? ""), "published": .array(published),
        "failed": .array(
          failed.map { .object(["node_id": .string($0.id), "message": .string($0.failure.message)]) }),
      ]).text)
  }

  /// SHA-256 of a file of any size.
  private static func digest(of path: String) throws -> String {
    do {
      let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
      var digest = SHA256()
      while let piece = try handle.read(upToCount: 1 << 20), !piece.isEmpty {
        piece.withUnsafeBytes { digest.update($0) }
      }
      return Hexadecimal.text(digest.digest())
    } catch {
      throw CommandFailure(.usage, "the module cannot be read from \(path): \(error.localizedDescription)")
    }
  }
}
