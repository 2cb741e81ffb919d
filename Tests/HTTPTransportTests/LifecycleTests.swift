import Glibc
import PluginAPI
import Testing
import TransportSupport

@testable import HTTPTransport

extension HTTPTests {
  @Suite struct LifecycleTests {
    @Test func goodbye() async throws {
      try await withTransport { fixture in
        fixture.host.put("mutable://open/a", json: "1")
        let idle = try fixture.client()
        #expect(try idle.get("/health/live").headers["connection"] == nil)
        let busy = try fixture.client()
        fixture.host.state.withLock { $0.holds = true }
        busy.send("GET /api/v1/read/mutable/open/a HTTP/1.1\r\n\r\n")
        var held = fixture.host.held.makeAsyncIterator()
        let call = try #require(await held.next())
        let end = deadline(inMs: 60_000)
        let probe = try fixture.client()
        #expect(try probe.get("/health/live").headers["connection"] == nil)
        async let quiesced: Void = fixture.transport.quiesce(end)
        while try probe.get("/health/live").headers["connection"] == nil {}
        // A new connection stays in the kernel's queue, for the successor to take: nobody answers it here.
        let later = try fixture.client()
        later.send("GET /health/live HTTP/1.1\r\n\r\n")
        onThread(call)
        let answer = try busy.response()
        #expect(answer.text == "{\"ts\":0,\"data\":1}")
        #expect(answer.headers["connection"] == "close")
        #expect(try busy.end() == [])
        let last = try idle.get("/health/live")
        #expect(last.status == 200)
        #expect(last.headers["connection"] == "close")
        #expect(try idle.end() == [])
        // Both clients have closed, or will when their objects go; the deadline is far away.
        withExtendedLifetime(later) {}
        _ = (consume idle, consume busy, consume probe)
        await quiesced
        #expect(monotonicNs() < end.monotonicNs)
        #expect(fixture.transport.connections() == 0)
      }
    }

    @Test func pipelinedRequestsAreAllAnsweredBeforeGoodbye() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        #expect(try client.get("/health/live").status == 200)
        async let quiesced: Void = fixture.transport.quiesce(deadline(inMs: 60_000))
        // Until the loop knows, an answer says nothing of closing.
        var last = try client.get("/health/live")
        var client2 = client
        while last.headers["connection"] == nil {
          client2.send(String(repeating: "GET /health/live HTTP/1.1\r\n\r\n", count: 3))
          let three = try (0..<3).map { _ in try client2.response() }
          #expect(three.dropLast().allSatisfy { $0.headers["connection"] == nil })
          last = three[2]
        }
        _ = try client2.end()
        client2 = try Client(port: fixture.port)
        await quiesced
      }
    }

    @Test func idleConnectionsEndAtTheDeadlineWithoutAReset() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        #expect(try client.get("/health/live").status == 200)
        let end = deadline(inMs: 500)
        async let quiesced: Void = fixture.transport.quiesce(end)
        #expect(try client.end() == [])
        #expect(monotonicNs() > end.monotonicNs - 100_000_000)
        await quiesced
      }
    }

    @Test func aSuccessorTakesWhatThePredecessorLeaves() async throws {
      try await withTransport { fixture in
        let successor = try HTTPTransport(HTTPConfiguration(), fixture.host.context)
        try await successor.start()
        await fixture.transport.quiesce(deadline(inMs: 1_000))
        for _ in 0..<20 { #expect(try fixture.client().get("/health/live").status == 200) }
        await successor.stop()
      }
    }

    @Test func stoppingGivesUpOpenCalls() async throws {
      let host = try await {
        var kept: FakeHost?
        try await withTransport { fixture in
          kept = fixture.host
          fixture.host.state.withLock { $0.holds = true }
          let client = try fixture.client()
          client.send("GET /api/v1/read/mutable/open/a HTTP/1.1\r\n\r\n")
          var held = fixture.host.held.makeAsyncIterator()
          let call = try #require(await held.next())
          await fixture.transport.stop()
          // The completion comes when everything is gone.
          onThread(call)
          _ = try? client.end()
        }
        return kept!
      }()
      var cancelled = host.cancelled.makeAsyncIterator()
      #expect(await cancelled.next() != nil)
    }

    @Test func nothingStaysBehind() async throws {
      func descriptors() -> Int { entries("/proc/self/fd").count }
      try await withTransport { fixture in _ = try fixture.client().get("/health/live") }
      let before = (own(), descriptors())
      for _ in 0..<20 {
        try await withTransport({ $0.loops = 2 }) { fixture in _ = try fixture.client().get("/health/live") }
      }
      #expect(own() == before.0)
      #expect(descriptors() == before.1)
    }

    /// Threads that carry a name of ours or of NIO's: the test runner's own come and go.
    private func own() -> Int {
      entries("/proc/self/task").filter { task in
        guard let file = fopen("/proc/self/task/\(task)/comm", "r") else { return false }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 64)
        guard fgets(&line, 64, file) != nil else { return false }
        let name = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return name.hasPrefix("NIO") || name.hasPrefix("http-accept")
      }.count
    }

    private func entries(_ path: String) -> [String] {
      guard let directory = opendir(path) else { return [] }
      defer { closedir(directory) }
      var names: [String] = []
      while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if !name.hasPrefix(".") { names.append(name) }
      }
      return names
    }
  }
}
