import Foundation
import NodeTesting
import Synchronization
import Testing

/// An operator's hands: configurations, updates, networks and what nodes report, through the executable.
@Suite struct ManagedCommandTests {
  /// A folder with the operator's keys, a node's and a stranger's, and the node's configuration.
  private struct Desk {
    let folder: TestFolder
    let operatorKey: String
    let nodeId: String
    let strangerKey: String
    let encryptionKey: String

    init() async throws {
      folder = try TestFolder()
      operatorKey = try await Self.key(folder, "operator", "ed25519")
      nodeId = try await Self.key(folder, "node", "ed25519")
      strangerKey = try await Self.key(folder, "stranger", "ed25519")
      encryptionKey = try await Self.key(folder, "reader", "x25519")
      try write(configuration, "config.json")
    }

    private static func key(_ folder: TestFolder, _ name: String, _ type: String) async throws -> String {
      let made = try await CommandLineRun.run(
        ["keys", "generate", "--type", type, "--output", name, "--json"], directory: folder.path)
      let answer = try JSONSerialization.jsonObject(with: Data(made.output.utf8)) as? [String: Any]
      return try #require(answer?["public_key"] as? String, "\(made)")
    }

    var configuration: String {
      #"{"configVersion":1,"nodeId":"\#(nodeId)","name":"one","server":{"port":9942,"corsOrigin":"*"},"#
        + #""backends":[{"type":"postgresql","url":"postgresql://u:hunter2@h/d"}],"extra":1.50,"#
        + #""monitoring":{"heartbeatIntervalMs":1000,"configPollIntervalMs":1000,"metricsEnabled":true}}"#
    }

    func write(_ text: String, _ name: String) throws {
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder.path + "/" + name))
    }

    /// Runs `backplane` here; keys are named by files.
    func run(_ arguments: String..., node: String = "http://127.0.0.1:1", input: String = "") async throws
      -> CommandLineRun
    {
      try await CommandLineRun.run(
        arguments, environment: ["BACKPLANE_NODE": node], directory: folder.path, input: input)
    }

    /// A report as the node would write it, signed with the key in `file`.
    func report(_ payload: String, key file: String = "node", encrypted: Bool = false) async throws -> String {
      let recipient = encrypted ? ["--encrypt-to", encryptionKey] : []
      let signed = try await CommandLineRun.run(
        ["sign", "--key", file] + recipient, directory: folder.path, input: payload)
      try #require(signed.status == 0, "\(signed)")
      return String(signed.output.dropLast())
    }

    func status(_ state: String = "online", ageMs: Int64 = 0, more: String = "") -> String {
      let time = Int64(Date().timeIntervalSince1970 * 1000) - ageMs
      return #"{"nodeId":"\#(nodeId)","name":"self-named","status":"\#(state)","lastHeartbeat":\#(time),"#
        + #""uptime":65000,"configTimestamp":0,"server":{"port":1},"#
        + #""backends":[{"type":"memory","status":"connected"},{"type":"http","status":"error"}]\#(more)}"#
    }

    func metrics(_ opsPerSecond: Int) -> String {
      #"{"writeLatencyP50":0.5,"writeLatencyP99":12.25,"readLatencyP50":0.0021,"readLatencyP99":3,"#
        + #""opsPerSecond":\#(opsPerSecond),"errorRate":0.0125}"#
    }
  }

  private func object(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
  }

  private func node() throws -> NodeProcess {
    try NodeProcess(plugins: ["backend-memory", "schema-permissive", "transport-http"])
  }

  // MARK: - Configurations

  @Test func everythingThatIsWrongIsSaidAndNothingIsSigned() async throws {
    let desk = try await Desk()
    let wrong = #"{"configVersion":1,"nodeId":"n","name":"","server":{"port":0,"corsOrigin":""},"backends":[{}]}"#
    let run = try await desk.run("config", "sign", "--key", "operator", input: wrong)
    #expect(run.status == 78 && run.output.isEmpty)
    #expect(
      run.error.split(separator: "\n") == [
        "backplane: the configuration in standard input cannot be used.", "/name: name required",
        "/server/port: server.port must be 1-65535",
        "/backends/0/type: backend.type must be one of: memory, postgresql, mongodb, http",
        "/backends/0/url: backend.url must be a non-empty string", "/monitoring: monitoring object required",
      ])
    let json = try await desk.run("config", "publish", "--key", "operator", "--json", input: "{")
    #expect(json.status == 78 && json.error.hasPrefix(#"{"error":{"code":"configuration","message":""#))
    #expect(try await desk.run("config", "sign", "none.json", "--key", "operator").status == 64)
    #expect(try await desk.run("config", "sign", "--key", "-", input: wrong).status == 64)
    #expect(try await desk.run("config", "sign", "config.json", "--key", "reader").status == 64)
  }

  @Test func aConfigurationIsSignedAsItStands() async throws {
    let desk = try await Desk()
    let signed = try await desk.run("config", "sign", "config.json", "--key", "operator")
    #expect(signed.status == 0, "\(signed)")
    // Members that nobody here knows are the operator's, and numbers are printed as JavaScript would.
    #expect(signed.output.hasSuffix(#""payload":\#(desk.configuration.replacing("1.50", with: "1.5"))}"# + "\n"))
    #expect(signed.error.contains("/extra: the member is unknown"))
    #expect(signed.error.contains("/backends/0/url holds a secret") && !signed.error.contains("hunter2"))
    let verified = try await desk.run("verify", input: signed.output)
    #expect(verified.output == "Signed by \(desk.operatorKey).\n")

    let file = try await desk.run(
      "config", "sign", "config.json", "--key", "operator", "--encrypt-to", desk.encryptionKey, "-o", "signed.json")
    #expect(file.status == 0 && file.output.isEmpty && !file.error.contains("holds a secret"))
    let attributes = try FileManager.default.attributesOfItem(atPath: desk.folder.path + "/signed.json")
    #expect(attributes[.posixPermissions] as? Int == 0o600)
    let opened = try await desk.run("decrypt", "--key", "reader", "--by", desk.operatorKey, "signed.json")
    #expect(opened.output == desk.configuration.replacing("1.50", with: "1.5") + "\n", "\(opened)")
  }

  @Test func aConfigurationIsPublishedAndPulled() async throws {
    let desk = try await Desk()
    let server = try node()
    let url = "http://127.0.0.1:\(server.port)"
    let uri = "mutable://accounts/\(desk.operatorKey)/nodes/\(desk.nodeId)/config"
    let pull = ["config", "pull", "--operator", desk.operatorKey, "--node-id", desk.nodeId]
    func pulled(_ more: String...) async throws -> CommandLineRun {
      try await CommandLineRun.run(
        pull + more, environment: ["BACKPLANE_NODE": url], directory: desk.folder.path)
    }
    let missing = try await pulled()
    #expect(missing.status == 1 && missing.error == "backplane: Config not found at \(uri)\n")

    let published = try await desk.run("config", "publish", "config.json", "--key", "operator", node: url)
    #expect(published.status == 0 && published.output == "Published the configuration of one at \(uri).\n")
    #expect(try await pulled().output == desk.configuration.replacing("1.50", with: "1.5") + "\n")

    let encrypted = try await desk.run(
      "config", "publish", "config.json", "--key", "operator", "--encrypt-to", desk.encryptionKey, "--json", node: url)
    let answer = try object(encrypted.output)
    #expect(answer["uri"] as? String == uri && answer["encrypted"] as? Bool == true)
    #expect(answer["operator"] as? String == desk.operatorKey && answer["node_id"] as? String == desk.nodeId)
    let locked = try await pulled()
    #expect(locked.status == 1 && locked.output.isEmpty)
    #expect(locked.error.contains("Config at \(uri) is encrypted but no decryption key provided"))
    let read = try object(try await pulled("--decryption-key", "reader", "--json").output)
    #expect(read["encrypted"] as? Bool == true && read["timestamp_ms"] as? Int64 == answer["timestamp_ms"] as? Int64)
    #expect((read["config"] as? [String: Any])?["name"] as? String == "one")

    // Somebody else's words at the operator's place, and the operator's words that are no configuration.
    let forged = try await desk.report(desk.configuration, key: "stranger")
    #expect(try await desk.run("receive", uri, forged, node: url).status == 0)
    #expect(try await pulled().error.contains("has no valid signature from operator \(desk.operatorKey)"))
    let broken = try await desk.report(#"{"configVersion":1}"#, key: "operator")
    #expect(try await desk.run("receive", uri, broken, node: url).status == 0)
    #expect(try await pulled().error.contains("Invalid config data at \(uri): nodeId required"))
    #expect(server.stop() == 0)
  }

  @Test func aNodeThatKeepsSomethingElseIsFoundOut() async throws {
    let desk = try await Desk()
    let kept = Mutex("")
    let node = try await StubNode { request, body in
      guard request.hasPrefix("POST") else {
        return (.ok, "application/json", Array(kept.withLock { #"{"ts":5,"data":\#($0)}"# }.utf8))
      }
      // As a database does that orders members by itself.
      let message = body.dropFirst(#"{"tx":["#.count).drop { $0 != "{" }.dropLast(2)
      let sorted = try? JSONSerialization.data(
        withJSONObject: JSONSerialization.jsonObject(with: Data(message.utf8)), options: .sortedKeys)
      kept.withLock { $0 = String(decoding: sorted ?? Data(), as: UTF8.self) }
      return (.ok, "application/json", Array(#"{"accepted":true}"#.utf8))
    }
    let run = try await desk.run("config", "publish", "config.json", "--key", "operator", node: node.url)
    #expect(run.status == 1 && run.output.isEmpty)
    #expect(run.error.contains("has another message there"))
    try await node.stop()
    #expect(try await desk.run("config", "publish", "config.json", "--key", "operator").status == 69)
  }

  // MARK: - Updates

  @Test func anUpdateIsPublishedToEachNode() async throws {
    let desk = try await Desk()
    let server = try node()
    let url = "http://127.0.0.1:\(server.port)"
    try desk.write("abc", "module.so")
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    let run = try await desk.run(
      "update", "publish", "--key", "operator", "--node-id", desk.nodeId, "--node-id", desk.strangerKey, "--version",
      "1.2.0", "--module-url", "https://x.example/m.so", "--file", "module.so", "--release-notes", "Faster", node: url)
    #expect(
      run.output == "Published version 1.2.0 for \(desk.nodeId).\nPublished version 1.2.0 for \(desk.strangerKey).\n")
    let uri = "mutable://accounts/\(desk.operatorKey)/nodes/\(desk.strangerKey)/update"
    let record = try await desk.run("read", uri, node: url).output
    let payload =
      #""payload":{"version":"1.2.0","moduleUrl":"https://x.example/m.so","checksum":"\#(digest)","#
      + #""releaseNotes":"Faster"}}"#
    #expect(record.hasSuffix(payload + "\n"))
    #expect(try await desk.run("verify", input: record).output == "Signed by \(desk.operatorKey).\n")
    let json = try await desk.run(
      "update", "publish", "--key", "operator", "--node-id", desk.nodeId, "--version", "2", "--module-url", "u",
      "--checksum", digest.uppercased(), "--json", node: url)
    let answer = try object(json.output)
    #expect(answer["checksum"] as? String == digest && (answer["published"] as? [Any])?.count == 1)
    #expect(server.stop() == 0)
  }

  @Test func anUpdateNeedsOneUsableChecksum() async throws {
    let desk = try await Desk()
    let begin = ["update", "publish", "--key", "operator", "--node-id", desk.nodeId, "--version", "1"]
    for end in [["--module-url", "u"], ["--module-url", "u", "--checksum", "abc"], ["--checksum", "abc"]] {
      let run = try await CommandLineRun.run(begin + end, directory: desk.folder.path)
      #expect(run.status == 64, "\(run)")
    }
    // One that fails does not keep the others from theirs.
    let node = try await StubNode { _, _ in
      (.badRequest, "application/json", Array(#"{"accepted":false,"error":"Not here"}"#.utf8))
    }
    let run = try await desk.run(
      "update", "publish", "--key", "operator", "--node-id", desk.nodeId, "--node-id", desk.strangerKey, "--version",
      "1", "--module-url", "u", "--checksum", String(repeating: "a", count: 64), node: node.url)
    #expect(run.status == 1 && run.error.contains("\(desk.nodeId): ") && run.error.contains("\(desk.strangerKey): "))
    #expect(run.error.contains("Not here"))
    try await node.stop()
  }

  // MARK: - Reports

  @Test func heartbeatsAreShownForWhatTheyAreWorth() async throws {
    let desk = try await Desk()
    let server = try node()
    let url = "http://127.0.0.1:\(server.port)"
    let uri = "mutable://accounts/\(desk.nodeId)/status"
    func shown(_ report: String, _ arguments: String...) async throws -> (finding: [String: Any], status: Int32) {
      #expect(try await desk.run("receive", uri, report, node: url).status == 0)
      let run = try await CommandLineRun.run(
        ["node", "status", desk.nodeId, "--json"] + arguments, environment: ["BACKPLANE_NODE": url],
        directory: desk.folder.path)
      let nodes = try #require(try object(run.output)["nodes"] as? [[String: Any]])
      return (try #require(nodes.first), run.status)
    }
    let good = try await shown(desk.report(desk.status(more: #","metrics":\#(desk.metrics(50))"#)))
    #expect(good.status == 0 && good.finding["ok"] as? Bool == true)
    #expect(good.finding["signature"] as? String == "valid" && good.finding["name"] as? String == "self-named")
    let table = try await desk.run("node", "status", desk.nodeId, node: url)
    let rows = table.output.split(separator: "\n")
    #expect(rows.count == 2 && rows[0].hasPrefix("NODE        ID"))
    #expect(rows[1].contains("memory, http: error") && rows[1].contains("0.500/12.2") && rows[1].contains("1.25 %"))
    #expect(rows[1].contains("1 min 5 s") && rows[1].hasSuffix("valid"))

    let degraded = try await shown(desk.report(desk.status("degraded", more: #","problem":"no \u001b disk""#)))
    #expect(degraded.status == 1 && degraded.finding["problem"] as? String == "no \u{1b} disk")
    let printed = try await desk.run("node", "status", desk.nodeId, node: url).output
    #expect(printed.hasSuffix("no \\u{1b} disk\n") && !printed.contains("\u{1b}"))

    let stale = try await shown(desk.report(desk.status(ageMs: 200_000)))
    #expect(stale.status == 1 && stale.finding["stale"] as? Bool == true)
    #expect(try await desk.run("node", "status", desk.nodeId, node: url).output.contains("online, stale"))
    let patient = try await shown(
      desk.report(desk.status(ageMs: 200_000)), "--heartbeat-interval-ms", "600000")
    #expect(patient.status == 0 && patient.finding["stale"] as? Bool == false)
    // Whoever has gone owes no heartbeat.
    let offline = try await shown(desk.report(desk.status("offline", ageMs: 200_000)))
    #expect(offline.status == 1 && offline.finding["stale"] as? Bool == false)

    let forged = try await shown(desk.report(desk.status(), key: "stranger"))
    #expect(forged.status == 1 && forged.finding["signature"] as? String == "invalid")
    #expect(forged.finding["report"] is NSNull)
    #expect(try await shown(desk.status()).finding["signature"] as? String == "none")
    #expect(
      try await shown(desk.report("{}")).finding["problem"] as? String == "what it wrote is no status: nodeId required")
    let locked = try await shown(desk.report(desk.status(), encrypted: true))
    #expect(locked.status == 1 && locked.finding["signature"] as? String == "unknown")
    let unlocked = try await shown(desk.report(desk.status(), encrypted: true), "--decryption-key", "reader")
    #expect(unlocked.status == 0 && unlocked.finding["signature"] as? String == "valid")
    #expect(server.stop() == 0)
  }

  @Test func aNetworkNamesItsNodes() async throws {
    let desk = try await Desk()
    let server = try node()
    let url = "http://127.0.0.1:\(server.port)"
    let manifest =
      #"{"networkId":"net-1","name":"Net","nodes":[{"nodeId":"\#(desk.nodeId)","name":"alpha","role":"worker","#
      + #""publicKey":"\#(desk.nodeId)","config":\#(desk.configuration)},{"nodeId":"\#(desk.strangerKey)","#
      + #""name":"beta","role":"worker","publicKey":"\#(desk.strangerKey)","config":\#(desk.configuration)}]}"#
    try desk.write(manifest, "network.json")
    // By the network's own interval (1 s) it is stale, by the default it would not be.
    let report = try await desk.report(desk.status(ageMs: 30_000))
    #expect(try await desk.run("receive", "mutable://accounts/\(desk.nodeId)/status", report, node: url).status == 0)
    let run = try await desk.run("node", "status", "--network", "network.json", node: url)
    let rows = run.output.split(separator: "\n")
    #expect(run.status == 1 && rows.count == 4, "\(run)")
    #expect(rows[1].hasPrefix("alpha") && rows[1].contains("online, stale"))
    #expect(rows[2].hasPrefix("beta") && rows[3] == "beta (\(desk.strangerKey.prefix(8))): no heartbeat")
    let one = try await desk.run("node", "metrics", "beta", "--network", "network.json", node: url)
    #expect(one.status == 1 && one.output.hasSuffix("): no metrics\n") && !one.output.contains("alpha"))
    #expect(try await desk.run("node", "status", "gamma", "--network", "network.json", node: url).status == 1)

    let uri = "mutable://accounts/\(desk.operatorKey)/networks/net-1"
    let signed = try await desk.report(manifest, key: "operator")
    #expect(try await desk.run("receive", uri, signed, node: url).status == 0)
    let read = try await desk.run(
      "node", "status", "--operator", desk.operatorKey, "--network-id", "net-1", "--json", node: url)
    let nodes = try #require(try object(read.output)["nodes"] as? [[String: Any]])
    #expect(nodes.map { $0["name"] as? String } == ["alpha", "beta"])
    let missing = try await desk.run(
      "node", "status", "--operator", desk.operatorKey, "--network-id", "net-2", node: url)
    #expect(missing.status == 1 && missing.error.contains("Network not found at \(uri.dropLast())2"))
    try desk.write(#"{"networkId":"x","name":"y","nodes":[{}]}"#, "network.json")
    let broken = try await desk.run("node", "status", "--network", "network.json", node: url)
    #expect(broken.status == 78 && broken.error.contains("/nodes/0/config: nodes[0].config required"))
    #expect(server.stop() == 0)
  }

  @Test func watchingAsksAgain() async throws {
    let desk = try await Desk()
    let reports = try await [
      desk.report(desk.metrics(0)), desk.report(desk.metrics(50)), desk.report(desk.metrics(100)),
    ]
    let looks = Mutex(0)
    let node = try await StubNode { _, _ in
      let report = looks.withLock { look in
        defer { look += 1 }
        return reports[look % reports.count]
      }
      let now = Int64(Date().timeIntervalSince1970 * 1000)
      return (.ok, "application/json", Array(#"{"ts":\#(now),"data":\#(report)}"#.utf8))
    }
    let watch = ["node", "metrics", desk.nodeId, "--watch", "--count", "3", "--interval-ms", "100"]
    let environment = ["BACKPLANE_NODE": node.url]
    let plain = try await CommandLineRun.run(watch, environment: environment, directory: desk.folder.path)
    let lines = plain.output.split(separator: "\n")
    #expect(plain.status == 0 && lines.count == 3 && !plain.output.contains("\u{1b}"), "\(plain)")
    #expect(
      lines[1].contains(" ops/s=50 ") && lines[2].contains(" ops/s=100 ") && lines[2].hasSuffix("signature=valid"))

    let json = try await CommandLineRun.run(watch + ["--json"], environment: environment, directory: desk.folder.path)
    #expect(json.output.split(separator: "\n").count == 3)

    // On a terminal the table is drawn over itself, with what the numbers were.
    let command = ([CommandLineRun.executable.path] + watch).joined(separator: " ")
    let drawn = try await CommandLineRun.run(
      ["-qec", "stty cols 160 rows 20; \(command)", "/dev/null"],
      environment: environment.merging(["TERM": "xterm"]) { $1 },
      directory: desk.folder.path, executable: URL(fileURLWithPath: "/usr/bin/script"))
    #expect(drawn.status == 0, "\(drawn)")
    #expect(drawn.output.components(separatedBy: "\u{1b}[3A").count == 3, "\(drawn.output)")
    #expect(drawn.output.contains("▁▅█") && drawn.output.contains("OPS/S TREND"))
    let narrow = try await CommandLineRun.run(
      ["-qec", "stty cols 40 rows 3; \(command)", "/dev/null"],
      environment: environment.merging(["TERM": "xterm"]) { $1 },
      directory: desk.folder.path, executable: URL(fileURLWithPath: "/usr/bin/script"))
    #expect(narrow.output.contains("(2 more lines: make the window higher)"))
    #expect(try await desk.run("node", "status", desk.nodeId, "--count", "2").status == 64)
    try await node.stop()
  }

  @Test func nobodyToAskIsAnError() async throws {
    let desk = try await Desk()
    let run = try await desk.run("node", "status", desk.nodeId)
    #expect(run.status == 69 && run.output.isEmpty && run.error.contains("connection refused"))
    #expect(try await desk.run("node", "status").status == 64)
    #expect(try await desk.run("node", "status", "abc").status == 64)
    // Somebody who watches wants to see it come back.
    let watched = try await desk.run("node", "status", desk.nodeId, "--watch", "--count", "1")
    #expect(watched.status == 1 && watched.output.contains("connection refused"))
  }
}
