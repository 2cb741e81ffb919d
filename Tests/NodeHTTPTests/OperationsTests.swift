import Foundation
import NodeTesting
import Testing

/// What operators and browsers see.
@Suite struct OperationsTests {
  @Test func healthReadinessAndLife() throws {
    let node = try NodeProcess(environment: ["BACKEND_URL": "memory://,sqlite://"])
    let client = try HTTPConnection(port: node.port)
    for path in ["/health", "/api/v1/health"] {
      let health = try client.get(path)
      #expect(health.status == 200)
      #expect(health.headers["content-type"] == "application/json")
      #expect(health.text == #"{"status":"healthy","backends":["memory","sqlite"]}"#)
    }
    let live = try client.get("/health/live")
    #expect(live.status == 200)
    #expect(live.text == #"{"status":"live"}"#)
    let ready = try client.get("/health/ready")
    #expect(ready.status == 200)
    #expect(ready.text == #"{"status":"ready"}"#)
    #expect(try client.get("/api/v1/schema").text == #"{"schema":[]}"#)
    for path in ["/health/", "/health/no", "/metrics/", "/livez"] { #expect(try client.get(path).status == 404) }
  }

  @Test func metricsAreOpenMetrics() throws {
    let node = try NodeProcess()
    let client = try HTTPConnection(port: node.port)
    for index in 0..<7 {
      #expect(try client.post("/api/v1/receive", #"{"tx":["mutable://open/\#(index)",1]}"#).status == 200)
      #expect(try client.get("/api/v1/read/mutable/open/\(index)").status == 200)
    }
    #expect(try client.get("/api/v1/read/mutable/open/none").status == 404)
    // Recorded once a second.
    var metrics = try OpenMetrics("# EOF\n")
    let deadline = ContinuousClock.now + .seconds(10)
    repeat {
      let answer = try client.get("/metrics")
      #expect(answer.status == 200)
      #expect(answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8")
      metrics = try OpenMetrics(answer.text)
      if metrics.value("backplane_plugin_http_requests_total", ["route": "read"]) == 8 { break }
      usleep(100_000)
    } while ContinuousClock.now < deadline
    #expect(metrics.value("backplane_plugin_http_requests_total", ["route": "read"]) == 8)
    #expect(metrics.value("backplane_plugin_http_requests_total", ["route": "receive"]) == 7)
    #expect(metrics.value("backplane_plugin_http_client_errors_total") == 1)
    #expect(metrics.value("backplane_plugin_http_connections") == 1)
    #expect(metrics.value("backplane_plugin_records", ["slot": "memory"]) == 7)
    let calls = ["slot": "memory", "operation": "read"]
    #expect(metrics.value("backplane_calls_total", calls.merging(["code": "not_found"]) { $1 }) == 1)
    #expect(metrics.value("backplane_call_seconds_count", calls) == 8)
    for family in metrics.families { #expect(family.help?.isEmpty == false, "\(family.name) has no help") }
  }

  @Test func requestIDs() throws {
    let node = try NodeProcess()
    let client = try HTTPConnection(port: node.port)
    for path in ["/health", "/api/v1/read/mutable/open/none", "/nothing", "/metrics"] {
      #expect(try client.get(path, headers: ["X-Request-ID": "abc-1 2"]).headers["x-request-id"] == "abc-1 2")
    }
    let options = try client.request("OPTIONS", "/x", headers: ["x-request-id": "o"])
    #expect(options.headers["x-request-id"] == "o")
    var made: Set<String> = []
    for _ in 0..<20 { made.insert(try #require(client.get("/health/live").headers["x-request-id"])) }
    #expect(made.count == 20)
    #expect(made.allSatisfy { $0.wholeMatch(of: #/[0-9a-f]{16}/#) != nil })
    // One that could do harm, or is too long, is replaced.
    for bad in [String(repeating: "a", count: 129), "a\tb", "\u{e9}"] {
      let id = try client.get("/health/live", headers: ["X-Request-Id": bad]).headers["x-request-id"]
      #expect(id != bad && id?.count == 16, "\(bad)")
    }
  }

  @Test func origins() throws {
    func origin(_ node: NodeProcess, _ path: String, _ method: String, _ origin: String?) throws -> String? {
      let client = try HTTPConnection(port: node.port)
      let answer = try client.request(method, path, headers: origin.map { ["Origin": $0] } ?? [:])
      #expect(answer.headers["vary"] == "Origin")
      return answer.headers["access-control-allow-origin"]
    }
    let paths = [
      ("/health", "GET"), ("/nothing", "GET"), ("/api/v1/receive", "POST"), ("/api/v1/receive", "OPTIONS"),
      ("/api/v1/list/a/b", "GET"), ("/metrics", "HEAD"),
    ]
    let open = try NodeProcess(environment: ["CORS_ORIGIN": "*"])
    for (path, method) in paths {
      #expect(try origin(open, path, method, "https://a.test") == "https://a.test")
      #expect(try origin(open, path, method, nil) == nil)
    }
    // From the environment, and from the file.
    let fixed = try NodeProcess(environment: ["CORS_ORIGIN": "https://app.test"])
    let listed = try NodeProcess.memory(http: [#"cors_origin: "https://app.test, https://b.test""#])
    for (path, method) in paths {
      for asked in ["https://a.test", nil] {
        #expect(try origin(fixed, path, method, asked) == "https://app.test")
        #expect(try origin(listed, path, method, asked) == "https://app.test, https://b.test")
      }
    }
  }

  /// A backend that cannot finish: another program holds the write lock of the database.
  @Test func aWriteThatTakesTooLongIsA504() throws {
    let node = try NodeProcess(
      configuration: """
        slots:
          main:
            kind: backend
            url: "sqlite:///${state_directory}/slow.db"
          http:
            request_timeout_ms: 400
        """.replacingOccurrences(of: "sqlite:///${state_directory}/slow.db", with: "sqlite://slow.db"))
    let client = try HTTPConnection(port: node.port)
    #expect(try client.post("/api/v1/receive", #"{"tx":["mutable://open/a",1]}"#).status == 200)
    let file = try #require(
      try CommandLineTool.run("/usr/bin/find", [node.folder.path, "-name", "slow.db"], in: "/").output.split(
        separator: "\n"
      ).first)
    let holder = try DatabaseHolder(file: String(file))
    var status = 0
    let time = try seconds {
      let answer = try client.post("/api/v1/receive", #"{"tx":["mutable://open/a",2]}"#)
      status = answer.status
      #expect(JSONValue(answer.body)?["accepted"] == .bool(false), "\(answer.text)")
      #expect(!answer.closes)
    }
    #expect(status == 504)
    #expect(time >= 0.35 && time < 5, "\(time) s")
    // Reads go on meanwhile, on the same connection.
    #expect(try client.get("/api/v1/read/mutable/open/a").text.hasSuffix(#""data":1}"#))
    try holder.letGo()
    #expect(try client.post("/api/v1/receive", #"{"tx":["mutable://open/a",3]}"#).status == 200)
    #expect(try client.get("/api/v1/read/mutable/open/a").text.hasSuffix(#""data":3}"#))
  }
}

/// The sqlite3 shell in the middle of a write transaction.
final class DatabaseHolder {
  private let process = Process()
  private let input = Pipe()

  init(file: String) throws {
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["sqlite3", file]
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    try input.fileHandleForWriting.write(contentsOf: Data("BEGIN IMMEDIATE;\nSELECT 'held';\n".utf8))
    let said = output.fileHandleForReading.availableData
    try #require(String(decoding: said, as: UTF8.self) == "held\n", "sqlite3 must be installed")
  }

  func letGo() throws {
    try input.fileHandleForWriting.write(contentsOf: Data("ROLLBACK;\n.quit\n".utf8))
    try input.fileHandleForWriting.close()
    process.waitUntilExit()
  }
}
