import ArgumentParser
import ComposeText
import Foundation
import JSONText
import ManagedNode
import MessageCrypto

/// Which network a command is about.
struct NetworkOptions: ParsableArguments {
  @Argument(help: ArgumentHelp("The network's manifest.", valueName: "file")) var file = "network.json"

  @Option(
    name: .long,
    help: ArgumentHelp("The folder of the private keys; else keys, beside the manifest.", valueName: "directory")
  )
  var keys: String?

  func load() throws -> NetworkFile { try NetworkFile(path: file, keys: keys) }
}

/// A manifest that was read and holds what it must, with the keys that go with it.
struct NetworkFile: Sendable {
  static let sizeBytesMax = 16 << 20

  let path: String
  /// As it stands in the file: this is what is signed.
  let document: [UInt8]
  let manifest: NetworkManifest
  let keys: NetworkKeys

  /// Throws with everything that is wrong, each with the node and its place in the file.
  init(path: String, keys: String? = nil) throws {
    self.path = path
    let folder = (path as NSString).deletingLastPathComponent
    let beside = folder.isEmpty ? NetworkKeys.folderName : "\(folder)/\(NetworkKeys.folderName)"
    self.keys = NetworkKeys(directory: keys ?? beside)
    document = try Self.read(path)
    let problems = NetworkManifest.problems(in: document)
    guard problems.isEmpty else { throw Self.failure(path, problems, Self.names(in: document)) }
    do {
      manifest = try NetworkManifest(document)
    } catch { throw CommandFailure(.configuration, "\(path) is no manifest of a network: \(error)") }
    let identities = Self.identityProblems(manifest)
    guard identities.isEmpty else { throw Self.failure(path, identities, manifest.nodes.map(\.name)) }
  }

  /// What has no effect, or not the one that was meant: sentences.
  var notices: [String] {
    manifest.nodes.enumerated().flatMap { index, node in
      node.configuration.notices.map {
        "\(Self.place(path, "/nodes/\(index)/config\($0.pointer)", node.name)): \($0.text)"
      }
    }
  }

  /// The operator's keys. The one that signs must be there.
  func operatorKeys() throws -> (signing: Ed25519.KeyPair, encryption: X25519.KeyPair?) {
    guard let signing = try keys.signing(NetworkKeys.operatorName) else {
      throw CommandFailure(
        .usage,
        "the operator's private key is not in \(keys.path(NetworkKeys.operatorName, .signing)). Give the folder with "
          + "--keys.")
    }
    return (signing, try keys.encryption(NetworkKeys.operatorName))
  }

  /// Whether anything is encrypted: configurations to nodes, and what they say to the operator.
  var isEncrypted: Bool { manifest.nodes.contains { $0.encryptionPublicKey != nil } }

  // MARK: Running it on one machine or in one compose file

  /// The network as services of one machine. Throws when names or ports clash.
  func services(configServerPort: Int = ComposeFile.configServerPort, usesOwnDatabases: Bool) throws -> ComposeNetwork {
    let nodes = manifest.nodes.map { node in
      ComposeNetwork.Node(
        name: node.name, publicKey: node.publicKey, encryptionPublicKey: node.encryptionPublicKey,
        // A fraction passes the rules of the reference, and no node can listen on it.
        port: node.configuration.server.portNumber ?? 0, corsOrigin: node.configuration.server.corsOrigin,
        backendTypes: usesOwnDatabases ? node.configuration.backends.map(\.type.rawValue) : [])
    }
    let network = ComposeNetwork(nodes: nodes)
    let problems = network.problems(configServerPort: configServerPort)
    guard problems.isEmpty else {
      throw CommandFailure(.configuration, "\(path) cannot be run as it is:\n  " + problems.joined(separator: "\n  "))
    }
    return network
  }

  // MARK: What is wrong

  private static func read(_ path: String) throws -> [UInt8] {
    do {
      let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
      let bytes = Array(try handle.read(upToCount: sizeBytesMax + 1) ?? Data())
      guard bytes.count <= sizeBytesMax else {
        throw CommandFailure(.configuration, "\(path) is larger than \(sizeBytesMax >> 20) MiB.")
      }
      return bytes
    } catch let failure as CommandFailure {
      throw failure
    } catch {
      throw CommandFailure(
        .usage,
        "the manifest \(path) cannot be read: \(error.localizedDescription) Make one with backplane network init.")
    }
  }

  /// A node looks for its configuration under its public key, so that is its name everywhere.
  private static func identityProblems(_ manifest: NetworkManifest) -> [DocumentProblem] {
    manifest.nodes.enumerated().flatMap { index, node -> [DocumentProblem] in
      var problems: [DocumentProblem] = []
      func add(_ key: String, _ text: String) {
        problems.append(DocumentProblem(pointer: "/nodes/\(index)/\(key)", text: text))
      }
      if Hexadecimal.decode(node.publicKey)?.count != Ed25519.publicKeySizeBytes {
        add("publicKey", "the public key must be 64 hexadecimal digits")
      }
      if node.nodeId != node.publicKey {
        add("nodeId", "the node's id must be its public key, under which it looks for its configuration")
      }
      if node.configuration.nodeId != node.nodeId {
        add("config/nodeId", "the configuration is for another node than the entry that it stands in")
      }
      return problems
    }
  }

  private static func failure(_ path: String, _ problems: [DocumentProblem], _ names: [String?]) -> CommandFailure {
    let lines = problems.map { problem -> String in
      let parts = problem.pointer.split(separator: "/", omittingEmptySubsequences: false)
      let index = parts.count > 2 && parts[1] == "nodes" ? Int(parts[2]) : nil
      let name = index.flatMap { names.indices.contains($0) ? names[$0] : nil }
      return "\(place(path, problem.pointer, name)): \(problem.text)"
    }
    let count = lines.count == 1 ? "one problem" : "\(lines.count) problems"
    return CommandFailure(
      .configuration, "\(path) cannot be used; it has \(count).\n  " + lines.joined(separator: "\n  "))
  }

  private static func place(_ path: String, _ pointer: String, _ name: String?) -> String {
    var text = path
    if !pointer.isEmpty { text += " \(pointer)" }
    if let name { text += " (node \"\(Output.printable(name))\")" }
    return text
  }

  /// The names of the nodes of a document that is no manifest, as far as they can be seen.
  private static func names(in document: [UInt8]) -> [String?] {
    document.withUnsafeBytes { raw in
      guard case .success(let value) = JSONScanner().scan(raw), value.kind == .object,
        let nodes = value.member("nodes"), nodes.kind == .array
      else { return [] }
      return nodes.elements.map { $0.kind == .object ? $0.member("name")?.text : nil }
    }
  }
}
