import Glibc
import Testing
import TransportSupport

@testable import HTTPTransport
@testable import PluginAPI

/// A running transport on a port of its own, with a fake host.
struct Fixture: Sendable {
  let host: FakeHost
  let transport: HTTPTransport
  let port: UInt16

  func client() throws -> Client { try Client(port: port) }
}

func withTransport(
  _ configure: (inout HTTPConfiguration) -> Void = { _ in }, _ body: (Fixture) async throws -> Void
) async throws {
  let host = FakeHost()
  let (listener, port) = listeningSocket()
  defer { close(listener) }
  host.state.withLock { $0.listener = listener }
  var configuration = HTTPConfiguration()
  configure(&configuration)
  let transport = try HTTPTransport(configuration, host.context)
  try await transport.start()
  do {
    try await body(Fixture(host: host, transport: transport, port: port))
  } catch {
    await transport.stop()
    throw error
  }
  await transport.stop()
}

func deadline(inMs milliseconds: UInt64) -> Deadline { Deadline(monotonicNs: monotonicNs() + milliseconds * 1_000_000) }

/// One after the other: one of them counts the descriptors of the whole process.
@Suite(.serialized) struct HTTPTests {}
