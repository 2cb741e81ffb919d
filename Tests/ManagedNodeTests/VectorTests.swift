import Foundation
import ManagedNode
import MessageCrypto
import Testing
import VectorTesting

/// What was recorded on the reference implementation holds here.
@Suite struct ManagedNodeVectors {
  private let vectors: ManagedVectors

  init() throws { vectors = try ManagedVectors() }

  @Test func theURIsAreThoseOfTheReference() throws {
    let uris = try #require(vectors.object["uris"] as? [String: String])
    let (key, node) = (try vectors.operatorKey, try vectors.nodeId)
    #expect(uris["config"] == ManagementURIs.config(operatorKey: key, nodeId: node))
    #expect(uris["update"] == ManagementURIs.update(operatorKey: key, nodeId: node))
    #expect(uris["status"] == ManagementURIs.status(nodeId: node))
    #expect(uris["metrics"] == ManagementURIs.metrics(nodeId: node))
    #expect(uris["network"] == ManagementURIs.network(operatorKey: key, networkId: "net-1"))
    #expect(uris.count == 5)
    #expect(ManagedDocument.config(operatorKey: key, nodeId: node).uri == uris["config"])
    #expect(ManagedDocument.metrics(nodeId: node).uri == uris["metrics"])
  }

  @Test func theSignedConfigurationIsOpenedAndRead() throws {
    let document = ManagedDocument.config(operatorKey: try vectors.operatorKey, nodeId: try vectors.nodeId)
    let opened = try document.open(vectors.raw("signedConfig"))
    #expect(!opened.wasEncrypted)
    let configuration = try ManagedConfiguration(opened.payload.bytes)
    #expect(try configuration.nodeId == vectors.nodeId)
    #expect(configuration.name == "evergreen-1")
    #expect(configuration.server == .init(port: 9942, corsOrigin: "*"))
    #expect(configuration.backends == [.init(type: .memory, url: "memory://")])
    #expect(configuration.peers == [.init(url: "http://127.0.0.1:9943", direction: .pull)])
    #expect(
      configuration.monitoring
        == .init(heartbeatIntervalMs: 60000, configPollIntervalMs: 30000, metricsEnabled: true))
    #expect(Set(configuration.tags.map { "\($0.name)=\($0.value)" }) == ["1=a", "2=b", "zone=eu"])
    #expect(configuration.notices.isEmpty)
    #expect(try text(configuration.text) == vectors.text("configPlaintext"))
  }

  @Test func theEncryptedConfigurationIsOpenedByItsNode() throws {
    let document = ManagedDocument.config(operatorKey: try vectors.operatorKey, nodeId: try vectors.nodeId)
    let message = try vectors.raw("signedEncryptedConfig")
    let opened = try document.open(message, decryptionKey: vectors.nodeDecryptionKey)
    #expect(opened.wasEncrypted)
    #expect(try text(opened.payload.bytes) == vectors.text("configPlaintext"))
  }

  @Test func signingMakesTheRecordedMessageAgain() throws {
    let document = ManagedDocument.config(operatorKey: try vectors.operatorKey, nodeId: try vectors.nodeId)
    let sealed = try document.seal(json(vectors.text("configPlaintext")), signers: [vectors.operatorPair])
    let recorded = try #require(
      try JSONSerialization.jsonObject(with: Data(vectors.raw("signedConfig"))) as? NSDictionary)
    #expect(try JSONSerialization.jsonObject(with: Data(sealed)) as? NSDictionary == recorded)
  }

  @Test func theUpdateIsOpenedAndRead() throws {
    let document = ManagedDocument.update(operatorKey: try vectors.operatorKey, nodeId: try vectors.nodeId)
    let update = try UpdateManifest(document.open(vectors.raw("signedUpdate")).payload.bytes)
    #expect(
      update
        == UpdateManifest(
          version: "1.2.0", moduleUrl: "https://releases.example.com/node-1.2.0.ts", checksum: "abc123",
          releaseNotes: "notes"))
    #expect(!update.hasUsableChecksum)
    #expect(try document.open(document.seal(update.text, signers: [vectors.operatorPair])).payload.bytes == update.text)
  }

  @Test func theNetworkIsOpenedAndRead() throws {
    let document = ManagedDocument.network(operatorKey: try vectors.operatorKey, networkId: "net-1")
    let opened = try document.open(vectors.raw("signedNetwork"))
    let network = try NetworkManifest(opened.payload.bytes)
    #expect(network.networkId == "net-1" && network.name == "Net" && network.summary == nil)
    let node = try #require(network.node("evergreen-1"))
    #expect(network.nodes.count == 1)
    #expect(try node.nodeId == vectors.nodeId)
    #expect(node.role == "worker")
    #expect(try node.encryptionKey() == vectors.nodeDecryptionKey.publicKey)
    #expect(try text(node.configuration.text) == vectors.text("configPlaintext"))
    #expect(try network.node(vectors.nodeId) == node)
    #expect(network.node("nobody") == nil)
  }

  @Test func theRulesOfConfigurationsAreThoseOfTheReference() throws {
    let cases = try SharedVectors.list("configValidation")
    let texts = try rawMembers(of: "configValidation", "config")
    #expect(cases.count == 26 && texts.count == 26)
    for (expected, document) in zip(cases, texts) {
      let name = try #require(expected["name"] as? String)
      let rule = expected["error"] as? String
      #expect(ManagedConfiguration.problems(in: document).first?.text == rule, "\(name)")
      do {
        _ = try ManagedConfiguration(document)
        #expect(expected["valid"] as? Bool == true, "\(name)")
      } catch {
        #expect("\(error)" == rule, "\(name)")
      }
    }
  }

  @Test func percentilesAreThoseOfTheReference() throws {
    let cases = try SharedVectors.list("percentile")
    #expect(cases.count == 8)
    for one in cases {
      let values = try #require(one["values"] as? [Double])
      #expect(Percentile.of(values, percent: 50) == one["p50"] as? Double, "\(values.count) values")
      #expect(Percentile.of(values, percent: 99) == one["p99"] as? Double, "\(values.count) values")
    }
  }

  @Test func networksOfTheComposeSamplesAreRead() throws {
    let manifests = try rawMembers(of: "compose", "manifest")
    #expect(manifests.count == 3)
    for manifest in manifests {
      let network = try NetworkManifest(manifest)
      #expect(network.networkId == "net-1")
      #expect(try NetworkManifest(network.text) == network)
      // Their encryption keys are abbreviated: nothing is encrypted to them, and nothing sent in the clear.
      for node in network.nodes where node.encryptionPublicKey != nil {
        #expect(throws: DocumentError.self) { try node.encryptionKey() }
      }
    }
  }
}
