import Foundation
import NodeTesting
import Testing

/// Clients that take their time, or very many connections.
@Suite struct SlowClientTests {
  @Test func aHeadThatTricklesInIsGivenUp() throws {
    let node = try NodeProcess.memory(http: ["header_timeout_ms: 500", "linger_timeout_ms: 100"])
    let client = try HTTPConnection(port: node.port, timeoutSeconds: 10)
    let time = try seconds {
      // A byte now and then keeps an idle time-out from ever passing; the head as a whole has its own.
      let head = Array("GET /health/live HTTP/1.1\r\nX-Slow: ".utf8)
      var status: Int?
      for round in 0..<200 where status == nil {
        do { try client.send([round < head.count ? head[round] : 0x61]) } catch HTTPConnection.Trouble.reset { break }
        if try client.hasInput(withinMs: 50) { status = try client.readAnswer().status }
      }
      #expect(status == 408)
    }
    #expect(time > 0.45 && time < 5, "\(time) s")
    #expect(try client.waitForClose())
    #expect(try node.isServing())
  }

  @Test func aBodyThatTricklesInIsGivenUp() throws {
    let node = try NodeProcess.memory(http: ["body_timeout_ms: 500", "linger_timeout_ms: 100"])
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
      let client = try HTTPConnection(port: node.port, timeoutSeconds: 10)
      try client.send("POST /api/v1/receive HTTP/1.1\r\nHost: t\r\n\(framing)\r\n\r\n")
      var status: Int?
      let time = try seconds {
        for _ in 0..<200 where status == nil {
          try client.send(framing.hasPrefix("C") ? " " : "1\r\n \r\n")
          if try client.hasInput(withinMs: 50) { status = try client.readAnswer().status }
        }
      }
      #expect(status == 408, "\(framing)")
      #expect(time > 0.45 && time < 5, "\(framing): \(time) s")
      #expect(try client.waitForClose())
    }
    #expect(try node.isServing())
  }

  @Test func anIdleConnectionIsClosed() throws {
    let node = try NodeProcess.memory(http: ["idle_timeout_ms: 400"])
    let fresh = try HTTPConnection(port: node.port, timeoutSeconds: 10)
    let used = try HTTPConnection(port: node.port, timeoutSeconds: 10)
    #expect(try used.get("/health/live").status == 200)
    #expect(try fresh.waitForClose())
    #expect(try used.waitForClose())
  }

  @Test func aClientThatNeverReadsHoldsNeitherMemoryNorOthers() throws {
    let node = try NodeProcess.memory(http: ["write_timeout_ms: 1500"])
    let writer = try HTTPConnection(port: node.port)
    let text = String(repeating: "x", count: 4 << 20)
    #expect(try writer.post("/api/v1/receive", #"{"tx":["mutable://open/large","\#(text)"]}"#).status == 200)
    let before = node.residentBytes
    let descriptors = node.resources().descriptors
    // 16 clients ask for 100 times 4 MiB each and read nothing: 6.4 GiB of answers.
    let clients = try (0..<16).map { _ in try HTTPConnection(port: node.port) }
    let request = "GET /api/v1/read/mutable/open/large HTTP/1.1\r\nHost: t\r\n\r\n"
    for client in clients { try client.send(String(repeating: request, count: 100)) }
    var peak = 0
    for _ in 0..<20 {
      #expect(try writer.get("/health/live").status == 200)
      peak = max(peak, node.residentBytes)
      usleep(50_000)
    }
    print("16 clients that read nothing: \((peak - before) >> 20) MiB more")
    #expect(peak - before < 16 * (4 << 20) * 3, "about one answer for each client, not a hundred: \(peak - before)")
    // Each is closed when it has read nothing for the time-out; what it finds then is a cut-off answer.
    #expect(waits { node.resources().descriptors <= descriptors })
    for client in clients {
      #expect(throws: HTTPConnection.Trouble.self) { for _ in 0..<100 { _ = try client.readAnswer() } }
    }
    #expect(try node.isServing())
  }

  @Test func tenThousandIdleConnections() throws {
    let count = 10_000
    guard DescriptorLimit.raise(to: count + 500) else {
      withKnownIssue("this machine allows too few descriptors for 10,000 connections; run with ulimit -n 11000") {
        Issue.record("skipped")
      }
      return
    }
    let node = try NodeProcess.memory(http: ["connections_max: 12000"])
    #expect(try node.isServing())
    let before = node.residentBytes
    var idle: [HTTPConnection] = []
    idle.reserveCapacity(count)
    let opening = try seconds {
      for index in 0..<count {
        let client = try HTTPConnection(port: node.port)
        // A tenth of them has begun a request, or has made one.
        if index % 20 == 0 { try client.send("GET /health/li") }
        if index % 20 == 10 { #expect(try client.get("/health/live").status == 200) }
        idle.append(client)
      }
    }
    // All of them are accepted before the last is answered: the accepting thread goes in order.
    var slowest = 0.0
    for _ in 0..<20 {
      let time = try seconds {
        let client = try HTTPConnection(port: node.port, timeoutSeconds: 10)
        #expect(try client.post("/api/v1/receive", #"{"tx":["mutable://open/a",1]}"#).status == 200)
      }
      slowest = max(slowest, time)
    }
    let growth = node.residentBytes - before
    print(
      "10,000 idle connections: \(growth >> 20) MiB more (\(growth / count) bytes each), opened in \(opening) s,",
      "slowest new client \(slowest) s")
    #expect(node.resources().descriptors >= count)
    #expect(slowest < 1, "a new client is served at once")
    #expect(growth < count * 32_768, "\(growth / count) bytes each")
    #expect(try idle[10].get("/health/live").status == 200)
    idle.removeAll()
    // They are gone, and so are their descriptors.
    #expect(waits { node.resources().descriptors < 200 })
  }

  @Test func connectionsAboveTheBoundAreTold() throws {
    let node = try NodeProcess.memory(http: ["connections_max: 50"])
    // The client that saw the node healthy may not be gone yet: who is refused comes again.
    var held: [HTTPConnection] = []
    #expect(
      waits {
        guard held.count < 50, let client = try? HTTPConnection(port: node.port) else { return held.count == 50 }
        if (try? client.get("/health/live").status) == 200 { held.append(client) }
        return held.count == 50
      })
    let refused = try HTTPConnection(port: node.port).get("/health/live")
    #expect(refused.status == 503)
    #expect(refused.headers["retry-after"] != nil)
    #expect(refused.closes)
    #expect(try held[0].get("/health/live").status == 200)
  }
}
