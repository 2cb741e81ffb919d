import HostileTesting
import NIOPosix
import NIOSSL
import Synchronization
import Testing

@testable import ManagedService

/// The HTTP client against servers that mean no good.
@Suite struct RemoteTests {
  private func trouble(
    timeoutMs: Int = 60_000, sizeBytesMax: Int = 100_000, redirectsMax: Int = 0,
    _ reply: @escaping @Sendable (String) -> HostileServer.Reply
  ) async throws -> String {
    let server = try HostileServer(reply)
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let client = WebClient(
      group, WebClient.Limits(timeoutMs: timeoutMs, sizeBytesMax: sizeBytesMax, redirectsMax: redirectsMax),
      tls: .makeClientConfiguration())
    let place = try Scene.settings(Scene.keys(try Cast(), url: server.url)).place
    var said = ""
    do throws(Trouble) {
      if redirectsMax > 0 {
        said = "\(try await WebDownloads(client: client).download(server.url + "/x.so", unlessTag: nil))"
      } else {
        said = "\(String(describing: try await RemoteStore(place: place, client: client).read("mutable://a/b")))"
      }
    } catch { said = error.description }
    await client.shutDown()
    try await group.shutdownGracefully()
    server.stop()
    return said.replacing(server.url, with: "URL")
  }

  @Test func answersThatAreNone() async throws {
    let answer = HostileServer.answer
    #expect(
      try await trouble { _ in .bytes(answer(200, "<html>", "text/html", "")) }
        == "URL gives an answer that is no node's (status 200, text/html, 6 bytes)")
    #expect(
      try await trouble { _ in .bytes(answer(200, #"{"ts":"#, "application/json", "")) }
        == "URL gives an answer that is no node's (status 200, application/json, 6 bytes)")
    #expect(
      try await trouble { _ in .bytes(answer(200, #"{"data":1}"#, "application/json", "")) }
        == "URL gives an answer that is no node's (status 200, application/json, 10 bytes)")
    #expect(
      try await trouble { _ in .bytes(answer(404, "no", "text/plain", "")) } == "no node answers at URL (status 404)")
    #expect(try await trouble { _ in .bytes(answer(404, "{}", "application/json", "")) } == "nil")
    #expect(
      try await trouble { _ in .bytes(answer(503, "{}", "application/json", "")) } == "URL answers with status 503")
    #expect(try await trouble { _ in .bytes(answer(401, "", "text/plain", "")) }.contains("refuses the credentials"))
    #expect(
      try await trouble { _ in .bytes(answer(302, "", "text/plain", "location: http://127.0.0.1:1/\r\n")) }
        .contains("a redirect, which is not followed"))
    #expect(try await trouble { _ in .bytesThenClose("garbage\r\n\r\n") }.hasPrefix("URL "))
    #expect(try await trouble { _ in .close } == "URL closed the connection before it had answered")
  }

  @Test func answersWithoutEnd() async throws {
    let chunk = String(repeating: "x", count: 60_000)
    let limit = "URL answers with more than 100000 bytes"
    #expect(
      try await trouble { _ in
        .endless(head: "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", chunk: chunk)
      } == limit)
    #expect(
      try await trouble { _ in .bytes("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n") } == limit)
    let time = "URL gave no whole answer within 300 ms"
    #expect(try await trouble(timeoutMs: 300) { _ in .silence } == time)
    #expect(
      try await trouble(timeoutMs: 300) { _ in .drip(head: "HTTP/1.1 200 OK\r\ncontent-length: 90000\r\n\r\n") } == time
    )
  }

  @Test func redirectsEnd() async throws {
    let said = try await trouble(redirectsMax: 5) { _ in
      .bytes(HostileServer.answer(302, "", type: "text/plain", "location: /x.so\r\n"))
    }
    #expect(said == "URL/x.so redirects in a circle, or more than 5 times")
    let long = try await trouble(redirectsMax: 5) { request in
      let number = request.split(separator: " ")[1].utf8.count
      return .bytes(
        HostileServer.answer(302, "", type: "text/plain", "location: /\(String(repeating: "y", count: number))\r\n"))
    }
    #expect(long == "URL/x.so redirects in a circle, or more than 5 times")
  }

  @Test func nobodyIsThere() async throws {
    let server = try HostileServer { _ in .close }
    let port = server.port
    server.stop()
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let client = WebClient(
      group, WebClient.Limits(timeoutMs: 60_000, sizeBytesMax: 1_000), tls: .makeClientConfiguration())
    let place = try Scene.settings(Scene.keys(try Cast(), url: "http://127.0.0.1:\(port)")).place
    await #expect(throws: Trouble("http://127.0.0.1:\(port) cannot be reached: connection refused")) {
      _ = try await RemoteStore(place: place, client: client).read("mutable://a/b")
    }
    await client.shutDown()
    try await group.shutdownGracefully()
  }

  @Test func aRecordComesByteForByte() async throws {
    let asked = Mutex("")
    let server = try HostileServer { request in
      asked.withLock { $0 = request }
      return .bytes(HostileServer.answer(200, #"{"ts":12,"data":{"b":1.0,  "a":"\u0041"}}"#))
    }
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let client = WebClient(
      group, WebClient.Limits(timeoutMs: 60_000, sizeBytesMax: 1_000), tls: .makeClientConfiguration())
    let place = try Scene.settings(
      Scene.keys(try Cast(), #""config_token":"secret""#, url: server.url + "/below")
    ).place
    let record = try await RemoteStore(place: place, client: client).read("mutable://accounts/x/config")
    #expect(record == StoredRecord(data: Array(#"{"b":1.0,  "a":"\u0041"}"#.utf8), timestampMs: 12))
    let request = asked.withLock { $0 }
    #expect(request.hasPrefix("GET /below/api/v1/read/mutable/accounts/x/config HTTP/1.1\r\n"))
    #expect(request.lowercased().contains("authorization: bearer secret\r\n"))
    await client.shutDown()
    try await group.shutdownGracefully()
    server.stop()
  }

  @Test func listenersAreThoseOfThisProcess() throws {
    let server = try HostileServer { _ in .close }
    defer { server.stop() }
    #expect(OwnAddresses.listeningPorts().contains(server.port))
    #expect(OwnAddresses.isOwn("127.0.0.1") && OwnAddresses.isOwn("localhost") && OwnAddresses.isOwn("::1"))
    #expect(!OwnAddresses.isOwn("192.0.2.1"))
  }
}
