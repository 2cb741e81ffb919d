import Foundation
import NodeTesting
import Testing

@Suite struct NetworkPublish {
  /// What became of every document, by node; the manifest's under "".
  private static func results(_ said: Said) -> [String: String] {
    let documents = said.json["documents"] as? [[String: Any]] ?? []
    return Dictionary(documents.map { ($0["node"] as? String ?? "", $0["result"] as? String ?? "") }) { $1 }
  }

  private static func publish(_ home: NetworkFolder, _ server: NodeProcess, _ more: [String] = []) throws -> Said {
    try home.run(["network", "publish", "--json", "--node", "http://127.0.0.1:\(server.port)"] + more)
  }

  @Test(arguments: [false, true])
  func onlyWhatChangedIsWritten(isEncrypted: Bool) throws {
    let home = try NetworkFolder(plugins: [])
    try home.make(["north", "south"], isEncrypted ? ["--encrypted"] : [])
    let server = try home.configServer()
    let first = try Self.publish(home, server)
    #expect(first.status == 0, "\(first.output)\(first.errors)")
    #expect(Self.results(first) == ["north": "created", "south": "created", "": "created"])
    let uris = (first.json["documents"] as? [[String: Any]] ?? []).compactMap { $0["uri"] as? String }
    let records = try uris.map { try server.read($0.replacingOccurrences(of: "://", with: "/")).text }
    #expect(records.count == 3 && records.allSatisfy { $0.contains("configVersion") != isEncrypted }, "\(records)")
    #expect(
      Self.results(try Self.publish(home, server)) == ["north": "unchanged", "south": "unchanged", "": "unchanged"])
    // Nothing was written: the time of each is the old one.
    #expect(try uris.map { try server.read($0.replacingOccurrences(of: "://", with: "/")).text } == records)

    let id = try home.nodeId("south")
    try home.edit(
      "\"nodeId\": \"\(id)\",\n        \"name\": \"south\",\n        \"server\"",
      "\"nodeId\": \"\(id)\",\n        \"name\": \"south\",\n        \"tags\": {\"zone\": \"eu\"},\n        \"server\"")
    let changed = try Self.publish(home, server)
    #expect(Self.results(changed) == ["north": "unchanged", "south": "changed", "": "changed"], "\(changed.output)")
    let document = (changed.json["documents"] as? [[String: Any]] ?? []).first { $0["node"] as? String == "south" }
    #expect(document?["changed"] as? [String] == ["tags"])

    // Without the node's private key nobody can tell whether an encrypted configuration is the same.
    try FileManager.default.removeItem(atPath: home.path + "/keys/north.encryption.pem")
    #expect(Self.results(try Self.publish(home, server))["north"] == (isEncrypted ? "changed" : "unchanged"))
    #expect(server.stop() == 0)
  }

  @Test func everyProblemIsToldWithItsNodeAndPlace() throws {
    let home = try NetworkFolder(plugins: [])
    try home.make(["north", "south"])
    try home.edit("\"port\": 9943", "\"port\": 0")
    try home.edit("\"metricsEnabled\": true", "\"metricsEnabled\": 1")
    let said = try home.run(["network", "publish", "--node", "http://127.0.0.1:1"])
    #expect(said.status == 78 && said.errors.contains("3 problems"), "\(said.errors)")
    #expect(said.errors.contains("/nodes/1/config/server/port (node \"south\")") && said.errors.contains("1-65535"))
    #expect(said.errors.contains("/nodes/0/config/monitoring/metricsEnabled (node \"north\")"))
    #expect(said.errors.contains("/nodes/1/config/monitoring/metricsEnabled (node \"south\")"))

    try FileManager.default.removeItem(atPath: home.manifestPath)
    try FileManager.default.removeItem(atPath: home.path + "/keys")
    try home.make(["north", "south"])
    try home.edit("\"publicKey\": \"\(home.nodeId("south"))\"", "\"publicKey\": \"abc\"")
    let other = try home.run(["network", "publish", "--node", "http://127.0.0.1:1"])
    #expect(other.status == 78 && other.errors.contains("/nodes/1/publicKey (node \"south\")"), "\(other.errors)")
    #expect(other.errors.contains("must be its public key"))
  }

  @Test func whatIsMissingIsSaid() throws {
    let home = try NetworkFolder(plugins: [])
    let without = try home.run(["network", "publish"])
    #expect(without.status == 64 && without.errors.contains("network init"), "\(without.errors)")
    try home.make(["north"])
    let nobody = try home.run(["network", "publish", "--node", "http://127.0.0.1:1"])
    #expect(nobody.status == 69 && nobody.errors.contains("no node answers"), "\(nobody.errors)")
    try FileManager.default.removeItem(atPath: home.path + "/keys/operator.signing.pem")
    let keyless = try home.run(["network", "publish", "--node", "http://127.0.0.1:1"])
    #expect(keyless.status == 64 && keyless.errors.contains("operator.signing.pem"), "\(keyless.errors)")
  }

  /// A stranger's key writes into an account of its own, and not into another's.
  @Test func aServerThatRefusesIsToldOf() throws {
    let home = try NetworkFolder(plugins: [])
    try home.make(["north"])
    let server = try NodeProcess(
      plugins: BuiltProducts.bundled + ["schema-b3nd"],
      configuration: """
        slots:
          schema: {kind: schema, plugin: org.backplane.b3nd, programs: ["mutable://open"]}
          m: {kind: backend, url: "memory://"}

        """)
    let said = try Self.publish(home, server)
    #expect(
      said.status == 1 && Self.results(said) == ["north": "failed", "": "failed"], "\(said.output)\(said.errors)")
    #expect(server.stop() == 0)
  }
}
