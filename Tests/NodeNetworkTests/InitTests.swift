import Foundation
import MessageCrypto
import NodeTesting
import Testing

@Suite struct NetworkInit {
  @Test func aNetworkHasKeysThatOnlyItsOwnerReadsAndAManifest() throws {
    let home = try NetworkFolder(plugins: [])
    let said = try home.make(["north=postgresql://a:secret@db/x", "south@9950", "east=sqlite://"], ["--id", "net-1"])
    #expect(said.output.contains("backplane network up") && !said.output.contains("secret"), "\(said.output)")
    for name in ["operator", "north", "south", "east"] {
      for purpose in ["signing", "encryption"] {
        #expect(try home.mode("keys/\(name).\(purpose).pem") == 0o600)
        #expect(try home.text("keys/\(name).\(purpose).pem").contains("\nPUBLIC_KEY_HEX="))
      }
    }
    #expect(try home.mode("keys") == 0o700)
    #expect(try home.text("keys/.gitignore") == "*\n")

    let manifest = try home.manifest()
    #expect(manifest["networkId"] as? String == "net-1" && manifest["name"] as? String == "Trial")
    let nodes = try home.nodes
    #expect(nodes.compactMap { $0["name"] as? String } == ["north", "south", "east"])
    for node in nodes {
      let name = try #require(node["name"] as? String)
      let config = try #require(node["config"] as? [String: Any])
      let key = try #require(node["publicKey"] as? String)
      #expect(node["nodeId"] as? String == key && config["nodeId"] as? String == key && key.count == 64)
      #expect(try home.text("keys/\(name).signing.pem").contains("PUBLIC_KEY_HEX=\(key)"))
      #expect(node["encryptionPublicKey"] == nil)
      let peers = try #require(config["peers"] as? [[String: Any]])
      #expect(peers.count == 2 && peers.allSatisfy { $0["direction"] as? String == "bidirectional" })
    }
    func config(_ index: Int) -> [String: Any] { nodes[index]["config"] as? [String: Any] ?? [:] }
    func backend(_ index: Int) -> [String: Any] { (config(index)["backends"] as? [[String: Any]])?.first ?? [:] }
    #expect(nodes.indices.map { (config($0)["server"] as? [String: Any])?["port"] as? Int } == [9942, 9950, 9943])
    #expect(nodes.indices.map { backend($0)["type"] as? String } == ["postgresql", "memory", "sqlite"])
    #expect(backend(0)["url"] as? String == "postgresql://a:secret@db/x")
  }

  @Test func nothingThatIsThereIsReplaced() throws {
    let home = try NetworkFolder(plugins: [])
    try home.make(["north"])
    let before = try home.text("network.json") + home.text("keys/operator.signing.pem")
    let again = try home.run(["network", "init", "--name", "Other", "--node", "south"])
    #expect(again.status == 64 && again.errors.contains("network.json") && again.errors.contains("there already"))
    #expect(try home.text("network.json") + home.text("keys/operator.signing.pem") == before)
    #expect(!FileManager.default.fileExists(atPath: home.path + "/keys/south.signing.pem"))
  }

  @Test(arguments: [
    (["--node", "north", "--node", "North"], "the service north"),
    (["--node", "operator"], "operator's keys"),
    (["--node", "config-server"], "which the network has already"),
    (["--node", "a@9942", "--node", "b@9942"], "The port 9942"),
    (["--node", "a=ftp://x"], "none of the types"),
    (["--node", "a=nonsense"], "--node"), ([], "needs a node"), (["--node", "a", "--poll-ms", "0"], "above zero"),
  ])
  func whatCannotBeIsRefusedBeforeAnythingIsMade(_ arguments: [String], _ reason: String) throws {
    let home = try NetworkFolder(plugins: [])
    let said = try home.run(["network", "init", "net", "--name", "Trial"] + arguments)
    #expect(said.status == 64 && said.errors.contains(reason), "\(said.errors)")
    #expect(!FileManager.default.fileExists(atPath: home.path + "/net"))
  }

  @Test func whereItRunsAndHowItIsEncryptedIsInTheManifest() throws {
    let home = try NetworkFolder(plugins: [])
    try home.make(["north", "south"], ["--encrypted", "--for", "compose"])
    for node in try home.nodes {
      let name = try #require(node["name"] as? String)
      let key = try #require(node["encryptionPublicKey"] as? String)
      #expect(try home.text("keys/\(name).encryption.pem").contains("PUBLIC_KEY_HEX=\(key)"))
      let peers = (node["config"] as? [String: Any])?["peers"] as? [[String: Any]]
      #expect(peers?.first?["url"] as? String == (name == "north" ? "http://south:9943" : "http://north:9942"))
    }
    let other = try NetworkFolder(plugins: [])
    try other.make(["north", "south"], ["--peers", "none"])
    #expect(try other.nodes.allSatisfy { ($0["config"] as? [String: Any])?["peers"] == nil })
  }
}
