import Foundation
import JSONText
import ManagedNode
import MessageCrypto
import PluginAPI
import VectorTesting

@testable import ManagedService

/// The operator and the node of the golden data.
struct Cast {
  let operatorPair: Ed25519.KeyPair
  let nodePair: Ed25519.KeyPair
  let nodeEncryption: X25519.KeyPair
  let nodeEncryptionHex: String
  let operatorEncryption = X25519.KeyPair()
  let vectors: [String: Any]

  init() throws {
    guard let vectors = try SharedVectors.object("b3nd.json")["managed"] as? [String: Any],
      let operatorSeed = vectors["operatorSeed"] as? String, let nodeSeed = vectors["nodeSeed"] as? String,
      let encryption = vectors["nodeEncryptionPkcs8Hex"] as? String
    else { throw Trouble("b3nd.json has no managed vectors") }
    self.vectors = vectors
    func pair(_ seed: String) throws -> Ed25519.KeyPair {
      guard let bytes = Hexadecimal.decode(seed),
        let pair = Ed25519.KeyPair(seed: bytes.withUnsafeBytes { SecretBytes(copying: $0) })
      else { throw Trouble("a seed is none") }
      return pair
    }
    operatorPair = try pair(operatorSeed)
    nodePair = try pair(nodeSeed)
    nodeEncryptionHex = encryption
    guard case .x25519(let key) = try Array(encryption.utf8).withUnsafeBytes({ try PrivateKey(pkcs8Hex: $0) }) else {
      throw Trouble("no key for encryption")
    }
    nodeEncryption = key
  }

  var operatorKey: String { operatorPair.publicKeyHex }
  var nodeID: String { nodePair.publicKeyHex }
  var nodePEM: String {
    PrivateKey.ed25519(nodePair).pem.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }

  /// A recorded message, as the very text of the file: the order of its members is what was signed.
  func recorded(_ key: String) throws -> [UInt8] {
    guard let file = RawJSON(Array(try SharedVectors.data("b3nd.json"))) else { throw Trouble("b3nd.json is no JSON") }
    let found = file.withSlice { file -> [UInt8]? in
      for (name, value) in file.member("managed")!.members where name.text == key { return Array(value.bytes) }
      return nil
    }
    guard let found else { throw Trouble("no \(key)") }
    return found
  }
}

/// Managed mode among fakes.
struct Scene {
  let cast: Cast
  let store = FakeStore()
  let kernel = FakeKernel()
  let node = FakeNode()
  let downloads = FakeDownloads()
  let journal = FakeJournal()
  let meter = FakeMeter()
  let clock = ManualClock()
  let folder: Folder
  let settings: ManagedSettings

  /// Removed with the last scene that uses it.
  final class Folder: Sendable {
    let path: String
    init() throws {
      path = NSTemporaryDirectory() + "backplane-managed-\(UUID().uuidString.prefix(8))"
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  init(_ more: String = "", folder: Folder? = nil) throws {
    cast = try Cast()
    self.folder = try folder ?? Folder()
    settings = try Scene.settings(Scene.keys(cast, more))
  }

  /// The keys of a slot that is right, and more of them.
  static func keys(_ cast: Cast, _ more: String = "", url: String = "http://config.test:9900") -> String {
    let pem = cast.nodePEM.replacingOccurrences(of: "\n", with: "\\n")
    return #"""
      {"config_url":"\#(url)","operator_key":"\#(cast.operatorKey)","node_id":"\#(cast.nodeID)",
       "node_private_key_pem":"\#(pem)"\#(more.isEmpty ? "" : ",")\#(more)}
      """#
  }

  static func settings(_ json: String) throws -> ManagedSettings {
    try ManagedSettings(
      try Array(json.utf8).withUnsafeBufferPointer { try ConfigurationDecoder.decode(ManagedSlot.self, from: $0) })
  }

  func manager() -> Manager {
    Manager(
      settings,
      Surroundings(
        store: store, kernel: kernel, node: node, clock: clock, downloads: downloads, journal: journal, meter: meter,
        files: StateFiles(folder.path)))
  }

  var configURI: String { ManagementURIs.config(operatorKey: cast.operatorKey, nodeId: cast.nodeID) }
  var updateURI: String { ManagementURIs.update(operatorKey: cast.operatorKey, nodeId: cast.nodeID) }
  var statusURI: String { ManagementURIs.status(nodeId: cast.nodeID) }
  var metricsURI: String { ManagementURIs.metrics(nodeId: cast.nodeID) }

  /// A configuration's text; `more` are further members.
  func configuration(
    name: String = "north", backends: String = #"[{"type":"memory","url":"memory://"}]"#, heartbeatMs: Int = 60_000,
    pollMs: Int = 30_000, metrics: Bool = false, nodeID: String? = nil, _ more: String = ""
  ) -> String {
    #"{"configVersion":1,"nodeId":"\#(nodeID ?? cast.nodeID)","name":"\#(name)","#
      + #""server":{"port":9942,"corsOrigin":"*"},"backends":\#(backends),"#
      + #""monitoring":{"heartbeatIntervalMs":\#(heartbeatMs),"configPollIntervalMs":\#(pollMs),"#
      + #""metricsEnabled":\#(metrics)}\#(more.isEmpty ? "" : ",")\#(more)}"#
  }

  /// Signs and stores.
  func publish(
    _ text: String, by signer: Ed25519.KeyPair? = nil, to recipient: X25519.KeyPair? = nil, timestampMs: Double? = nil
  ) throws {
    let document = ManagedDocument.config(operatorKey: cast.operatorKey, nodeId: cast.nodeID)
    let message = try document.seal(
      Array(text.utf8), signers: [signer ?? cast.operatorPair], encryptingTo: recipient?.publicKey)
    store.put(configURI, message, timestampMs: timestampMs)
  }

  func publishUpdate(_ manifest: UpdateManifest, by signer: Ed25519.KeyPair? = nil) throws {
    let document = ManagedDocument.update(operatorKey: cast.operatorKey, nodeId: cast.nodeID)
    store.put(updateURI, try document.seal(manifest.text, signers: [signer ?? cast.operatorPair]))
  }

  /// The statuses written so far, opened.
  func statuses() throws -> [NodeStatus] { try statusTexts().map { try NodeStatus($0) } }

  func statusTexts() throws -> [[UInt8]] {
    try store.writes(to: statusURI).map {
      try ManagedDocument.status(nodeId: cast.nodeID).open($0, decryptionKey: cast.operatorEncryption).payload.bytes
    }
  }
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

func digest(_ bytes: [UInt8]) -> String { Hexadecimal.text(bytes.withUnsafeBytes { SHA256.digest(of: $0) }) }
