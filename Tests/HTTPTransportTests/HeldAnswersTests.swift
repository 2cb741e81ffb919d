import Testing

@testable import HTTPTransport

extension HTTPTests {
  /// Answers that go out together with other connections'.
  @Suite struct HeldAnswersTests {
    /// More connections than wait for each other ask at the same time, in every way in which one may end.
    @Test func everyConnectionGetsItsOwn() async throws {
      try await withTransport({ $0.loops = 1 }) { fixture in
        for round in 0..<10 {
          let clients = try (0..<50).map { _ in try fixture.client() }
          let head = "GET /api/v1/schema HTTP/1.1\r\nHost: t\r\n"
          for (index, client) in clients.enumerated() {
            switch index % 5 {
            case 0: client.send("\(head)\r\n")
            case 1: client.send("\(head)\r\n\(head)\r\n")
            case 2: client.send("\(head)connection: close\r\n\r\n")
            case 3:
              client.send("\(head)\r\n")
              client.finish()
            default:
              client.send("\(head)\r\n")
              // What comes behind is malformed, and is answered behind.
              client.send("nonsense\r\n\r\n")
            }
          }
          for (index, client) in clients.enumerated() {
            #expect(try client.response().status == 200, "\(round) \(index)")
            switch index % 5 {
            case 0: #expect(try client.get("/health").status == 200)
            case 1: #expect(try client.response().status == 200)
            case 4:
              #expect(try client.response().status == 400)
              #expect(try client.end() == [])
            default: #expect(try client.end() == [])
            }
          }
        }
      }
    }

    /// An answer does not wait for one that takes long: it goes out when its turn ends, whatever is under way.
    @Test func aLoneAnswerIsNotKept() async throws {
      try await withTransport({ $0.loops = 1 }) { fixture in
        let quick = try fixture.client()
        let idle = try (0..<20).map { _ in try fixture.client() }
        for client in idle { client.send("POST /api/v1/receive HTTP/1.1\r\nHost: t\r\ncontent-length: 10\r\n\r\n{") }
        for _ in 0..<100 { #expect(try quick.get("/health").status == 200) }
      }
    }
  }
}
