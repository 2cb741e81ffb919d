import ArgumentParser
import ManagedNode
import MessageCrypto

/// A node whose reports are looked at.
struct WatchedNode: Sendable, Equatable {
  /// Its ed25519 key, under which it writes.
  let id: String
  /// From the network; nil: only the node says it.
  let name: String?
  /// Between two heartbeats.
  let heartbeatIntervalMs: Double
}

/// Which nodes, and how what they write is opened.
struct WatchedNodesOptions: ParsableArguments {
  @Argument(help: "Managed nodes by their ed25519 keys; of a network, by their names as well. Left out: all of it.")
  var nodes: [String] = []

  @Option(name: .long, help: ArgumentHelp("The network's manifest (JSON).", valueName: "path")) var network: String?

  @Option(
    name: .long, help: ArgumentHelp("The operator whose network is read from the node.", valueName: "public-key"))
  var `operator`: String?

  @Option(name: .long, help: ArgumentHelp("The network that is read from the node.", valueName: "id"))
  var networkId: String?

  @Option(
    name: .long,
    help: ArgumentHelp("Between two heartbeats, when no network says it; three of them without one are too many."))
  var heartbeatIntervalMs: Int = 60_000

  @OptionGroup var decryption: DecryptionOptions

  func validate() throws {
    guard (`operator` == nil) == (networkId == nil) else {
      throw ValidationError("--operator and --network-id go together.")
    }
    if network != nil, networkId != nil { throw ValidationError("Give --network or --network-id, not both.") }
    if nodes.isEmpty, network == nil, networkId == nil {
      throw ValidationError("Name a node by its public key, or a network: --network FILE.")
    }
    if heartbeatIntervalMs < 1 { throw ValidationError("--heartbeat-interval-ms must be above zero.") }
  }

  /// The nodes, in the order of the arguments or of the network.
  func read(_ client: DocumentClient, decryptionKey: X25519.KeyPair?) async throws -> [WatchedNode] {
    guard let manifest = try await manifest(client, decryptionKey) else {
      return try nodes.map {
        WatchedNode(
          id: try KeyInput.publicKeyText($0, option: "NODE-ID"), name: nil,
          heartbeatIntervalMs: Double(heartbeatIntervalMs))
      }
    }
    let chosen = try nodes.map { text in
      guard let node = manifest.node(text) else {
        throw CommandFailure(.refused, "the network \(Output.printable(manifest.name)) has no node \(text).")
      }
      return node
    }
    let interval = Double(heartbeatIntervalMs)
    return (nodes.isEmpty ? manifest.nodes : chosen).map { node in
      let stated = node.configuration.monitoring.heartbeatIntervalMs
      return WatchedNode(
        id: node.publicKey, name: node.name, heartbeatIntervalMs: stated > 0 ? stated : interval)
    }
  }

  private func manifest(_ client: DocumentClient, _ decryptionKey: X25519.KeyPair?) async throws -> NetworkManifest? {
    if let network {
      let input = try MessageInput(network)
      let problems = NetworkManifest.problems(in: input.bytes)
      guard problems.isEmpty else {
        let lines = problems.map { "\n" + Output.printable($0.description) }.joined()
        throw CommandFailure(.configuration, "the network in \(input.place) cannot be used.\(lines)")
      }
      do throws(DocumentError) { return try NetworkManifest(input.bytes) } catch {
        throw CommandFailure(.configuration, "the network in \(input.place) cannot be used.\n\(error)")
      }
    }
    guard let networkId, let key = `operator` else { return nil }
    let document = ManagedDocument.network(
      operatorKey: try KeyInput.publicKeyText(key, option: "--operator"), networkId: networkId)
    let payload = try await client.open(document, decryptionKey: decryptionKey).opened.payload.bytes
    do throws(DocumentError) { return try NetworkManifest(payload) } catch {
      throw CommandFailure(document.invalid(error))
    }
  }
}
