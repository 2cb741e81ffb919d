import ManagedNode
import Testing

/// What the documents hold beyond what was recorded.
@Suite struct ManagedDocuments {
  private func configuration(_ change: (inout String) -> Void) -> [UInt8] {
    var text = #"""
      {"configVersion":1,"nodeId":"n","name":"one","server":{"port":9942,"corsOrigin":"*"},
      "backends":[{"type":"memory","url":"memory://"}],
      "monitoring":{"heartbeatIntervalMs":1,"configPollIntervalMs":2.5,"metricsEnabled":false}}
      """#
    change(&text)
    return json(text)
  }

  private func with(_ members: String) -> [UInt8] {
    configuration {
      $0.removeLast()
      $0 += ",\(members)}"
    }
  }

  @Test func optionalMembersAreRead() throws {
    let read = try ManagedConfiguration(
      with(
        #"""
        "schemaModuleUrl":"file:///rules.json","schemaInline":{"mutable://x": {"a":1.0}},
        "peers":[{"url":"http://a","direction":"push"},{"url":"http://b","direction":"bidirectional"}],
        "networkId":"net","tags":{"zone":"eu","2":"b"}
        """#))
    #expect(read.schemaModuleUrl == "file:///rules.json")
    #expect(read.schemaInline.map { text($0.bytes) } == #"{"mutable://x": {"a":1.0}}"#)
    #expect(
      read.peers == [.init(url: "http://a", direction: .push), .init(url: "http://b", direction: .bidirectional)])
    #expect(read.networkId == "net")
    #expect(read.tags == [.init("zone", "eu"), .init("2", "b")])
    #expect(read.monitoring.configPollIntervalMs == 2.5)
    #expect(read.notices.isEmpty)
    #expect(try ManagedConfiguration(read.text) == read)
  }

  @Test func optionsOfBackendsAreRead() throws {
    let read = try ManagedConfiguration(
      configuration {
        $0.replace(
          #"{"type":"memory","url":"memory://"}"#,
          with: #"""
            {"type":"postgresql","url":"postgresql://x/y","options":{"tablePrefix":"p","poolSize":3,"connectionTimeout":9}},
            {"type":"mongodb","url":"mongodb://x/y","options":{"collectionName":"c","poolSize":"3","more":1}}
            """#)
      })
    #expect(read.backends.map(\.type) == [.postgresql, .mongodb])
    #expect(read.backends[0].options.tablePrefix == "p")
    #expect(read.backends[0].options.poolSize == 3)
    #expect(read.backends[0].options.connectionTimeoutMs == 9)
    #expect(read.backends[1].options.collectionName == "c")
    #expect(read.backends[1].options.poolSize == nil)
    #expect(
      read.notices == [
        .init(pointer: "/backends/1/options/poolSize", text: "the option is no number, so it has no effect"),
        .init(pointer: "/backends/1/options/more", text: "the option is unknown and has no effect"),
      ])
  }

  @Test func whatHasNoEffectIsNoted() throws {
    let read = try ManagedConfiguration(
      with(
        #"""
        "peers":[{"url":"http://a","direction":"sideways"},{"url":"","direction":"push"},7,{"url":"http://b"},
        {"url":"http://c","direction":"pull"}],"tags":{"a/b":1,"c":"d"},"networkId":5,"sché/ma":1
        """#))
    #expect(read.peers == [.init(url: "http://c", direction: .pull)])
    #expect(read.tags == [.init("c", "d")])
    #expect(
      read.notices.map(\.description) == [
        "/networkId: networkId is no text, so it has no effect",
        "/peers/0/direction: the direction \"sideways\" is unknown (push, pull or bidirectional), so it is left out",
        "/peers/1: the peer has no url, so it is left out",
        "/peers/2: the peer has no url, so it is left out",
        "/peers/3/direction: the peer has no direction (push, pull or bidirectional), so it is left out",
        "/tags/a~1b: the tag is no text, so it is left out",
        "/sché~1ma: the member is unknown and has no effect",
      ])
    let odd = try ManagedConfiguration(
      configuration {
        $0.replace("9942", with: "80.5")
        $0.replace(#""heartbeatIntervalMs":1"#, with: #""heartbeatIntervalMs":-1"#)
      })
    #expect(odd.server.port == 80.5 && odd.server.portNumber == nil)
    #expect(odd.notices.map(\.pointer) == ["/server/port", "/monitoring/heartbeatIntervalMs"])
  }

  @Test func theLastOfEqualMembersCounts() throws {
    let read = try ManagedConfiguration(with(#""name":"two","tags":{"a":"1","b":"2","a":"3"}"#))
    #expect(read.name == "two")
    #expect(read.tags == [.init("a", "3"), .init("b", "2")])
  }

  @Test func allProblemsAreNamedInOrder() {
    let problems = ManagedConfiguration.problems(in: json(#"{"backends":[{"type":"redis"},5],"server":{"port":-1}}"#))
    #expect(
      problems.map(\.description) == [
        "/configVersion: configVersion must be 1", "/nodeId: nodeId required", "/name: name required",
        "/server/port: server.port must be 1-65535", "/server/corsOrigin: server.corsOrigin required",
        "/backends/0/type: backend.type must be one of: memory, postgresql, mongodb, http",
        "/backends/0/url: backend.url must be a non-empty string", "/backends/1: backend must be an object",
        "/monitoring: monitoring object required",
      ])
    let many = "{\"backends\":[" + Array(repeating: "1", count: 1000).joined(separator: ",") + "]}"
    #expect(ManagedConfiguration.problems(in: json(many)).count == 65)
  }

  @Test func aHeartbeatHasTheShapeOfTheReference() throws {
    var metrics = NodeMetrics()
    metrics.writeLatencyP50Ms = 1.25
    metrics.opsPerSecond = 12
    metrics.errorRate = 0.5
    var status = NodeStatus(
      nodeId: "n", name: "one", status: .degraded, lastHeartbeatMs: 1_700_000_000_000, uptimeMs: 5,
      configTimestampMs: 0, port: 9942,
      backends: [.init(type: "memory", status: "connected"), .init(type: "http", status: "error")], metrics: metrics)
    let metricsText =
      #"{"writeLatencyP50":1.25,"writeLatencyP99":0,"readLatencyP50":0,"readLatencyP99":0,"opsPerSecond":12,"#
      + #""errorRate":0.5}"#
    let head =
      #"{"nodeId":"n","name":"one","status":"degraded","lastHeartbeat":1700000000000,"uptime":5,"configTimestamp":0,"#
      + #""server":{"port":9942},"backends":[{"type":"memory","status":"connected"},{"type":"http","status":"error"}]"#
    #expect(text(status.text) == head + #","metrics":"# + metricsText + "}")
    #expect(text(metrics.text) == metricsText)
    #expect(try NodeStatus(status.text) == status)
    #expect(try NodeMetrics(metrics.text) == metrics)
    status.metrics = nil
    #expect(text(status.text) == head + "}")
    status.problem = "no \"database\""
    #expect(text(status.text) == head + #","problem":"no \"database\""}"#)
    #expect(try NodeStatus(status.text) == status)
  }

  @Test(arguments: [
    (#"[]"#, "status must be an object"), (#"{}"#, "nodeId required"), (#"{"nodeId":"n"}"#, "name required"),
    (#"{"nodeId":"n","name":"","status":"gone"}"#, "status required"),
    (#"{"nodeId":"n","name":"","status":"online"}"#, "lastHeartbeat required"),
    (#"{"nodeId":"n","name":"","status":"online","lastHeartbeat":1}"#, "uptime required"),
    (#"{"nodeId":"n","name":"","status":"online","lastHeartbeat":1,"uptime":"1"}"#, "uptime required"),
    (#"{"nodeId":"n","name":"","status":"online","lastHeartbeat":1,"uptime":2}"#, "configTimestamp required"),
    // It is signed as null.
    (#"{"nodeId":"n","name":"","status":"online","lastHeartbeat":1,"uptime":1e400}"#, "uptime required"),
  ])
  func aHeartbeatThatIsNoneIsRefused(_ document: String, _ expected: String) {
    #expect {
      _ = try NodeStatus(json(document))
    } throws: { "\($0)" == expected }
  }

  @Test func metricsThatAreNoneAreRefused() {
    #expect {
      _ = try NodeMetrics(json(#"{"writeLatencyP50":1,"writeLatencyP99":"2"}"#))
    } throws: { "\($0)" == "writeLatencyP99 must be a number" }
    #expect {
      _ = try NodeMetrics(json("null"))
    } throws: { "\($0)" == "metrics must be an object" }
  }

  @Test func numbersOutsideOfTheRangeAreHeldAtItsEnds() throws {
    let status = try NodeStatus(
      json(#"{"nodeId":"n","name":"","status":"online","lastHeartbeat":1e40,"uptime":-1e30,"configTimestamp":2.5}"#))
    #expect(status.lastHeartbeatMs == .max && status.uptimeMs == .min && status.configTimestampMs == 3)
    #expect(status.port == nil && status.backends.isEmpty)
  }

  @Test func networksAreChecked() {
    let problems = NetworkManifest.problems(
      in: json(#"{"networkId":1,"name":"n","nodes":[{"nodeId":"a","name":"x","publicKey":"k"},{"nodeId":"a"},3]}"#))
    #expect(
      problems.map(\.text) == [
        "networkId required", "nodes[0].config required", "nodes[1].name required", "nodes[1].publicKey required",
        "nodes[1].nodeId is that of nodes[0]", "nodes[1].config required", "nodes[2] must be an object",
      ])
    #expect(
      NetworkManifest.problems(
        in: json(#"{"networkId":"","name":"n","nodes":[{"nodeId":"a","name":"x","publicKey":"k","config":{}}]}"#)
      ).first?.description == "/nodes/0/config/configVersion: nodes[0].config: configVersion must be 1")
    #expect(NetworkManifest.problems(in: json(#"{"networkId":"","name":""}"#)).map(\.text) == ["nodes array required"])
  }

  @Test func updatesAreChecked() throws {
    #expect {
      _ = try UpdateManifest(json(#"{"version":""}"#))
    } throws: { "\($0)" == "version required" }
    #expect {
      _ = try UpdateManifest(json(#"{"version":"1"}"#))
    } throws: { "\($0)" == "moduleUrl required" }
    let update = try UpdateManifest(json(#"{"version":"1","moduleUrl":"u"}"#))
    #expect(update.checksum == nil && update.releaseNotes == nil && !update.hasUsableChecksum)
    #expect(
      UpdateManifest(version: "1", moduleUrl: "u", checksum: String(repeating: "aF", count: 32)).hasUsableChecksum)
  }
}
