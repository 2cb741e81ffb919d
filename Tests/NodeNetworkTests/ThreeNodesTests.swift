import Foundation
import NodeTesting
import ServerTesting
import Testing

/// A network of three from one manifest with one command: PostgreSQL, SQLite and memory, configured over the protocol in
/// messages that are encrypted to each.
@Suite struct ThreeNodes {
  private static let pollMs = 5_000
  private static let names = ["postgres-node", "sqlite-node", "memory-node"]

  private let server: PostgreSQLServer
  private let home: NetworkFolder
  private let ports: [Int]

  init() throws {
    server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase()
    ports = (0..<3).map { _ in FreePort.find() }
    home = try NetworkFolder()
    let urls = [server.networkURL(database), "sqlite://", "memory://"]
    try home.make(
      zip(zip(Self.names, urls), ports).map { "\($0.0)=\($0.1)@\($1)" },
      ["--encrypted", "--heartbeat-ms", "1000", "--poll-ms", "\(Self.pollMs)"])
  }

  private func read(_ node: Int, _ path: String) -> String? {
    guard let answer = try? HTTPConnection(port: ports[node]).get("/api/v1/read/\(path)"), answer.status == 200 else {
      return nil
    }
    return answer.text
  }

  private func write(_ node: Int, _ path: String, _ data: String) throws -> Int {
    let uri = path.replacingOccurrences(of: "mutable/open", with: "mutable://open")
    return try HTTPConnection(port: ports[node]).post("/api/v1/receive", "{\"tx\":[\"\(uri)\",\(data)]}").status
  }

  /// Every node's own copy: what its backend has, without asking a peer.
  private func isEverywhere(_ path: String, _ data: String) -> Bool {
    ports.indices.allSatisfy { node in
      guard
        let answer = try? HTTPConnection(port: ports[node]).get(
          "/api/v1/read/\(path)", headers: ["backplane-forwarded": "1"])
      else { return false }
      return answer.status == 200 && answer.text.contains(data)
    }
  }

  private func schemes(_ node: Int) throws -> [String] {
    let answer = try HTTPConnection(port: ports[node]).get("/api/v1/health")
    let body = try JSONSerialization.jsonObject(with: Data(answer.text.utf8)) as? [String: Any]
    return body?["backends"] as? [String] ?? []
  }

  @Test func oneManifestMakesANetworkThatKeepsServing() throws {
    let network = try RunningNetwork(home)
    try network.waitForStatus { states, status in status == 0 && states.count == 3 }
    for (node, scheme) in ["postgresql", "sqlite", "memory"].enumerated() {
      #expect(Polling.until(seconds: 60) { (try? schemes(node).first) == scheme }, "\(network.log)")
    }
    // On the wire everything is encrypted.
    let key = try home.nodeId(Self.names[0])
    let status = try HTTPConnection(port: network.configPort).get("/api/v1/read/mutable/accounts/\(key)/status")
    #expect(status.status == 200 && status.text.contains("ephemeralPublicKey") && !status.text.contains("online"))

    // One write at each is visible on all.
    for node in ports.indices {
      let path = "mutable/open/from-\(node)"
      #expect(try write(node, path, "{\"written\":\(node)}") == 200)
      #expect(Polling.until(seconds: 60) { isEverywhere(path, "{\"written\":\(node)}") }, "\(network.log)")
    }

    try killOneAndHaveItBack(network)
    try changeTheConfigurationUnderLoad(network)

    #expect(network.stop() == 0, "\(network.log)")
    #expect(network.log.contains("[local-runner] Stopped 3 nodes"))
  }

  /// The node with SQLite dies in the middle of everything, comes back with what it had, and hears of what it missed when
  /// it is asked for it.
  private func killOneAndHaveItBack(_ network: RunningNetwork) throws {
    let victim = try #require(network.process(Self.names[1]))
    kill(victim, SIGKILL)
    try network.waitForLine("[local-runner] \(Self.names[1]) was ended by signal 9")
    // The others serve, though a peer is gone.
    #expect(try write(0, "mutable/open/meanwhile", "{\"while\":\"away\"}") == 200)
    #expect(try write(2, "mutable/open/meanwhile-2", "{\"while\":\"away\"}") == 200)
    try network.waitForStatus { states, status in status == 0 && states.count == 3 }
    #expect(network.process(Self.names[1]) != victim)
    #expect(Polling.until(seconds: 60) { (try? schemes(1).first) == "sqlite" }, "\(network.log)")
    #expect(Polling.until(seconds: 60) { read(1, "mutable/open/from-1")?.contains("\"written\":1") == true })
    // By its queue or by asking: either way it is there.
    for path in ["mutable/open/meanwhile", "mutable/open/meanwhile-2"] {
      #expect(Polling.until(seconds: 60) { read(1, path)?.contains("away") == true }, "\(network.log)")
    }
  }

  /// A new tag, a new origin: every node has it within two poll intervals of its publication, and no request fails.
  private func changeTheConfigurationUnderLoad(_ network: RunningNetwork) throws {
    let isLoading = Shared(true)
    let failures = Shared<[String]>([])
    let requests = Shared(0)
    let threads = TestThreads()
    for (index, port) in ports.enumerated() {
      threads.start {
        guard var client = try? HTTPConnection(port: port) else {
          return failures.with { $0.append("no connection to \(port)") }
        }
        var number = 0
        while isLoading.with({ $0 }) {
          number += 1
          do {
            let answer =
              number % 2 == 0
              ? try client.get("/api/v1/read/mutable/open/from-\(index)")
              : try client.post(
                "/api/v1/receive", "{\"tx\":[\"mutable://open/load-\(index)-\(number % 50)\",{\"n\":\(number)}]}")
            if answer.status != 200 { failures.with { $0.append("\(port): \(answer.status) \(answer.text)") } }
            // As it was told, before its next request.
            if answer.closes { client = try HTTPConnection(port: port) }
          } catch { failures.with { $0.append("\(port): \(error)") } }
          requests.with { $0 += 1 }
          usleep(2_000)
        }
      }
    }
    let published = network.log.components(separatedBy: "changed: server").count
    try home.edit("\"corsOrigin\": \"*\"", "\"corsOrigin\": \"https://changed.example\"")
    network.runner.signal(SIGHUP)
    let start = ContinuousClock.now
    try network.waitForLine("changed: server", count: published + 2)
    let isPublished = ContinuousClock.now
    let isApplied = Polling.until(seconds: 60, everyMs: 5) {
      ports.allSatisfy { port in
        (try? HTTPConnection(port: port).get("/api/v1/health").headers["access-control-allow-origin"])
          == "https://changed.example"
      }
    }
    let took = ContinuousClock.now - isPublished
    isLoading.with { $0 = false }
    #expect(threads.join())
    #expect(isApplied, "\(network.log)")
    #expect(failures.with { $0 } == [], "\(network.log)")
    #expect(requests.with { $0 } > 50)
    print(
      "published in \(isPublished - start), applied everywhere after \(took) under \(requests.with { $0 }) requests")
    #expect(took < .milliseconds(2 * Self.pollMs), "\(network.log)")
  }
}
