import PluginAPI
import PluginTestHost

/// The rules of transport.h, for any protocol: connections come and go, whatever is said on them.
struct TransportChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let waitLimit = Duration.seconds(10)

  func run() async {
    guard !bench.plugin.listeners.isEmpty else {
      await bench.recording.check("transport.listeners") {
        "the manifest declares no listeners: what it does with connections is not checked"
      }
      return
    }
    let isAccepting = await bench.recording.check("transport.accepts") {
      try await bench.serving { host in
        let idle = try connections(host)
        try require(idle == 0, "connections() is \(idle) before anybody connected")
        for name in bench.plugin.listeners {
          let client = try connect(host, name)
          try await wait("connections() to count a client of listener '\(name)'") { try connections(host) == 1 }
          client.close()
          try await wait("connections() to be 0 after the client had closed") { try connections(host) == 0 }
        }
      }
      return bench.plugin.listeners.joined(separator: ", ")
    }
    guard isAccepting else { return }
    await garbage()
    await quiesce()
  }

  private func garbage() async {
    await bench.recording.check("transport.garbage") {
      try await bench.serving { host in
        var random = SeededGenerator(seed: bench.seed)
        let openings: [[UInt8]] = [
          [], [0], Array("GET / HTTP/1.1\r\n".utf8), Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8),
          Array("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".utf8),
          [0x16, 0x03, 0x01, 0x02, 0x00, 0x01], Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8),
          Array(repeating: 0x41, count: 100_000), Array(repeating: 0x0a, count: 10_000),
        ]
        for name in bench.plugin.listeners {
          for round in 0..<60 {
            let client = try connect(host, name)
            client.send(openings[round % openings.count] + random.bytes(Int.random(in: 0...5_000, using: &random)))
            if random.oneIn(3) { client.resetOnClose() }
            client.close()
          }
          try await wait("connections() to be 0 after 60 clients had sent garbage and closed") {
            try connections(host) == 0
          }
          let client = try connect(host, name)
          try await wait("a client to be accepted after the garbage") { try connections(host) == 1 }
          client.close()
        }
      }
      return "seed \(bench.seed)"
    }
  }

  private func quiesce() async {
    await bench.recording.check("transport.quiesce") {
      try await bench.serving { host in
        let name = bench.plugin.listeners[0]
        let idle = try connect(host, name)
        try await wait("connections() to count a client") { try connections(host) == 1 }
        let clock = ContinuousClock()
        let start = clock.now
        // With an idle connection: it is closed at the deadline at the latest. BP_DEADLINE_EXCEEDED may be said of it.
        do {
          try await host.quiesce(within: .seconds(1))
        } catch let error as TestHostError where error.code == BP_DEADLINE_EXCEEDED { _ = error }
        let taken = clock.now - start
        try require(taken < .milliseconds(1_900), "quiesce had a deadline of 1 s and took \(taken)")
        let before = try connections(host)
        // The socket is the host's and stays open, so the client connects; the transport must leave it alone.
        let late = try connect(host, name)
        for _ in 0..<20 {
          let now = try connections(host)
          try require(now <= before, "a connection was accepted after quiesce")
          // Nothing tells that a connection is not accepted: a fifth of a second has to do.
          try await Task.sleep(for: .milliseconds(10))
        }
        idle.close()
        late.close()
      }
      return ""
    }
    await bench.recording.check("transport.stop-with-connections") {
      var clients: [TransportClient] = []
      try await bench.serving { host in
        for _ in 0..<20 { clients.append(try connect(host, bench.plugin.listeners[0])) }
        try await wait("connections() to count 20 clients") { try connections(host) == 20 }
      }
      for client in clients { client.close() }
      return ""
    }
  }

  /// One connection, for the cycles that count what is left.
  func touch(_ host: TestHost) async throws {
    guard let name = bench.plugin.listeners.first else { return }
    let client = try connect(host, name)
    try await wait("connections() to count a client") { try connections(host) >= 1 }
    client.close()
  }

  private func connections(_ host: TestHost) throws -> UInt64 {
    guard let table = host.extensionTable("backplane.transport/1", as: bp_transport.self) else {
      throw Problem("extension(\"backplane.transport/1\") is NULL")
    }
    guard let connections = table.pointee.connections else { throw Problem("bp_transport.connections is NULL") }
    let count = connections(host.pluginSelf)
    try require(count < 1_000_000, "connections() is \(count)")
    return count
  }

  private func connect(_ host: TestHost, _ name: String) throws -> TransportClient {
    guard let port = host.port(of: name) else {
      throw Problem("the suite could not bind a loopback port for '\(name)'")
    }
    guard let client = TransportClient(port: port) else {
      throw Problem("a connection to listener '\(name)' was refused: the transport has closed or shut down the socket")
    }
    return client
  }

  private func wait(_ what: String, _ condition: () throws -> Bool) async throws {
    let clock = ContinuousClock()
    let end = clock.now + TransportChecks.waitLimit
    while try !condition() {
      try require(clock.now < end, "waited \(TransportChecks.waitLimit) for \(what)")
      // connections() is a count, not an event.
      try await Task.sleep(for: .milliseconds(5))
    }
  }
}
