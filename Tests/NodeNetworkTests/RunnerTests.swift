import Foundation
import NodeTesting
import Testing

/// `network up`: what it starts, starts again, publishes and ends.
@Suite struct LocalRunner {
  private static func home(_ nodes: [String] = ["north", "south"], _ options: [String] = []) throws -> NetworkFolder {
    let home = try NetworkFolder()
    try home.make(
      nodes.map { "\($0)@\(FreePort.find())" },
      ["--peers", "none", "--heartbeat-ms", "1000", "--poll-ms", "300"] + options)
    return home
  }

  private static func allOnline(_ states: [String: String], _ status: Int32) -> Bool {
    status == 0 && states.values.allSatisfy { $0 == "online" }
  }

  @Test func aNetworkStartsReportsAndEndsInOrder() throws {
    let home = try Self.home()
    let network = try RunningNetwork(home)
    try network.waitForStatus(Self.allOnline)
    for name in ["config-server", "north", "south"] {
      #expect(network.log.contains("[local-runner] Started \(name) (port "), "\(network.log)")
      #expect(network.log.contains("\n[\(name)] "), "\(network.log)")
    }
    #expect(network.log.contains("[local-runner] Configuration of north created"))
    let server = try #require(network.process("config-server"))
    #expect(network.stop() == 0, "\(network.log)")
    #expect(network.log.hasSuffix("\n") && network.log.contains("[local-runner] Stopped 2 nodes"))
    #expect(kill(server, 0) != 0)

    // Nodes ended first, so that the config server has their last word; its records outlive it.
    let later = try RunningNetwork(home)
    try later.waitForStatus(Self.allOnline)
    #expect(!later.log.contains("Configuration of north created"), "\(later.log)")
    #expect(later.stop() == 0)
  }

  @Test func theLastWordOfANodeIsThatItIsOffline() throws {
    let home = try Self.home(["north"])
    let server = try home.configServer()
    let network = try RunningNetwork(home, ["--config-url", "http://127.0.0.1:\(server.port)"])
    func status() throws -> Said {
      try home.run(["network", "status", "--json", "--node", "http://127.0.0.1:\(server.port)"])
    }
    let isOnline = try Polling.until(seconds: 90, everyMs: 100) { try status().status == 0 }
    #expect(isOnline, "\(network.log)")
    #expect(!network.log.contains("Started config-server"))
    #expect(network.stop() == 0)
    let last = try status()
    #expect(last.status == 1 && RunningNetwork.states(last) == ["north": "offline"], "\(last.output)\(network.log)")
    let table = try home.run(["network", "status", "--node", "http://127.0.0.1:\(server.port)"])
    #expect(table.output.contains("north") && table.output.contains("offline"), "\(table.output)")
    #expect(server.stop() == 0)
  }

  @Test func whatCrashesIsStartedAgain() throws {
    let home = try Self.home(["north"])
    let network = try RunningNetwork(home)
    try network.waitForStatus(Self.allOnline)
    for service in ["north", "config-server"] {
      let first = try #require(network.process(service))
      kill(first, SIGKILL)
      try network.waitForLine("[local-runner] \(service) was ended by signal 9; it is started again")
      try network.waitForLine("[local-runner] Started \(service) (port ", count: 2)
      let second = try #require(network.process(service))
      #expect(second != first)
      try network.waitForStatus(Self.allOnline)
    }
    #expect(network.stop() == 0)
  }

  @Test func aChangedManifestIsPublishedAndItsNodesAreTheOnesThatRun() throws {
    let home = try Self.home()
    let network = try RunningNetwork(home)
    try network.waitForStatus(Self.allOnline)
    // A heartbeat that is not a number is refused, and everything runs on.
    let text = try home.text("network.json")
    try home.edit("\"heartbeatIntervalMs\": 1000", "\"heartbeatIntervalMs\": \"often\"")
    try network.waitForLine("[local-runner] The manifest was not published, and what runs is left as it is")
    #expect(network.log.contains("heartbeatIntervalMs required"))
    try home.folder.write(text, to: "network.json")

    // A changed tag goes to the node by the protocol; the process stays.
    let north = try #require(network.process("north"))
    try home.edit("\"metricsEnabled\": true", "\"metricsEnabled\": false")
    try network.waitForLine("[local-runner] Configuration of north changed: monitoring")
    #expect(network.process("north") == north)

    // Without south, and asked for by a signal.
    var manifest = try home.manifest()
    manifest["nodes"] = try home.nodes.filter { $0["name"] as? String == "north" }
    let data = try JSONSerialization.data(withJSONObject: manifest)
    try home.folder.write(String(decoding: data, as: UTF8.self), to: "network.json")
    network.runner.signal(SIGHUP)
    try network.waitForLine("[local-runner] south is no longer in the manifest and is stopped")
    #expect(Polling.until(seconds: 60) { network.process("south") == nil })
    #expect(network.runner.stop() == 0)
    #expect(network.log.contains("[local-runner] Stopped 1 nodes"))
  }

  @Test func aNodeWithoutItsKeyIsSkipped() throws {
    let home = try Self.home()
    let id = try home.nodeId("south")
    try FileManager.default.removeItem(atPath: home.path + "/keys/south.signing.pem")
    let network = try RunningNetwork(home)
    try network.waitForLine("[local-runner] Started north (port ")
    #expect(network.log.contains("[local-runner] No private key for node \(id) (south), skipping"))
    #expect(network.process("south") == nil)
    #expect(network.stop() == 0)
    #expect(network.log.contains("[local-runner] Stopped 1 nodes"))
  }

  @Test func nobodyOutlivesTheRunner() throws {
    let home = try Self.home(["north"])
    let network = try RunningNetwork(home)
    try network.waitForLine("[local-runner] Started north (port ")
    let children = [try #require(network.process("config-server")), try #require(network.process("north"))]
    network.runner.signal(SIGKILL)
    _ = network.runner.wait()
    #expect(Polling.until(seconds: 60) { children.allSatisfy { kill($0, 0) != 0 } })
  }

  @Test func aSecondSignalEndsAtOnce() throws {
    let home = try Self.home(["north"])
    let network = try RunningNetwork(home)
    try network.waitForLine("[local-runner] Started north (port ")
    let north = try #require(network.process("north"))
    // A node that does not end by itself.
    kill(north, SIGSTOP)
    network.runner.signal(SIGINT)
    // The runner has passed it on when it is pending there.
    #expect(
      Polling.until(seconds: 60) {
        let pending = ProcessFile.read("/proc/\(north)/status").split(separator: "\n").first { $0.hasPrefix("ShdPnd:") }
        let mask = pending?.split(separator: "\t").last.flatMap { UInt64($0, radix: 16) } ?? 0
        return mask & 1 << (SIGTERM - 1) != 0
      })
    network.runner.signal(SIGINT)
    #expect(network.runner.wait() == 128 + SIGINT)
    #expect(Polling.until(seconds: 60) { kill(north, 0) != 0 })
  }

  @Test func whatKeepsItFromStartingIsSaid() throws {
    let home = try Self.home(["north"])
    let server = try home.configServer()
    let taken = try home.run(["network", "up", "--config-port", "\(server.port)"])
    #expect(taken.status == 69 && taken.errors.contains("--config-port"), "\(taken.errors)")
    let nobody = try home.run(["network", "up", "--config-url", "http://127.0.0.1:1"])
    #expect(nobody.status == 69 && nobody.errors.contains("no node answers"), "\(nobody.errors)")
    try home.edit("\"metricsEnabled\": true", "\"metricsEnabled\": 1")
    let wrong = try home.run(["network", "up", "--config-port", "\(FreePort.find())"])
    #expect(wrong.status == 78 && wrong.errors.contains("metricsEnabled"), "\(wrong.errors)")
    #expect(server.stop() == 0)
  }
}
