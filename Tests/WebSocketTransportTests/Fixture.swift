import Foundation
import NodeTesting
import PluginAPI
import PluginTestHost
import Synchronization
import Testing

@testable import HTTPTransport

private let http = PluginEntry(HTTPTransport.self, id: "org.backplane.http", version: "0.1.0") {
  HTTPTransport.create($0, $1, $2)
}
private let webSocket = PluginEntry(WebSocketPortTransport.self, id: "org.backplane.websocket", version: "0.1.0") {
  WebSocketPortTransport.create($0, $1, $2)
}

/// Which transport carries it.
enum Carrier: CaseIterable, Sendable {
  /// The HTTP transport, at its path.
  case shared
  /// A port of its own.
  case own
}

/// A running transport in front of a node of the test's.
struct Fixture: Sendable {
  let host: TestHost
  let node: GatedNode
  let feed: ScriptedFeed
  let port: Int

  func client(
    path: String = "/api/v1/ws", headers: [String: String] = [:], trailing: [UInt8] = [], isSlow: Bool = false
  ) throws -> WebSocketClient {
    try WebSocketClient(port: port, path: path, headers: headers, trailing: trailing, isSlow: isSlow)
  }

  /// Waits until a metric has a value; the transport reports once a second.
  func waits(_ name: String, _ labels: [String: String] = [:], is value: Double) -> Bool {
    Polling.until(seconds: 60) { metric(name, labels) == value }
  }

  func metric(_ name: String, _ labels: [String: String] = [:]) -> Double? {
    host.metrics.first { $0.name == name && $0.labels == labels }?.value
  }
}

/// Starts a transport, runs `body` on a thread of its own - clients block - and expects that the transport kept to the
/// boundary's manners.
func withTransport(
  _ carrier: Carrier = .shared, _ configuration: String = "{}", _ body: @escaping @Sendable (Fixture) throws -> Void
) async throws {
  let feed = ScriptedFeed()
  let node = GatedNode()
  let host = try TestHost(
    entry: carrier == .shared ? http.pointer : webSocket.pointer, configuration: configuration, node: node, feed: feed)
  try await host.start()
  let port = Int(host.port(of: carrier == .shared ? "http" : "websocket")!)
  let fixture = Fixture(host: host, node: node, feed: feed, port: port)
  do { try await blocking { try body(fixture) } } catch {
    node.open()
    try? await host.stop()
    host.destroy()
    throw error
  }
  node.open()
  try await host.stop()
  host.destroy()
  #expect(host.violations.isEmpty, "\(host.violations)")
}

/// A bound of the configuration alone.
func checkConfiguration(_ carrier: Carrier, _ configuration: String) throws {
  _ = try TestHost(
    entry: carrier == .shared ? http.pointer : webSocket.pointer, configuration: configuration, purpose: .check)
}

/// Runs `body` on a thread of its own: nothing may block Swift's.
func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    Thread { continuation.resume(with: Result { try body() }) }.start()
  }
}

/// For a body that waits for what a task does.
func waitFor<Value: Sendable>(_ body: @escaping @Sendable () async -> Value) -> Value {
  let result = Mutex<Value?>(nil)
  let done = DispatchSemaphore(value: 0)
  Task {
    let value = await body()
    result.withLock { $0 = value }
    done.signal()
  }
  done.wait()
  return result.withLock { $0! }
}

/// A node in memory whose calls wait at a gate while it is shut.
final class GatedNode: TestNode {
  private struct State {
    var isShut = false
    var waiting: [CheckedContinuation<Void, Never>] = []
    var calls = 0
  }

  let memory = InMemoryNode(programs: ["mutable://open", "hash://sha256"])
  private let state = Mutex(State())

  func shut() { state.withLock { $0.isShut = true } }

  func open() {
    let waiting = state.withLock { state in
      state.isShut = false
      defer { state.waiting = [] }
      return state.waiting
    }
    for continuation in waiting { continuation.resume() }
  }

  /// Calls that have come so far.
  var calls: Int { state.withLock { $0.calls } }

  private func pass() async {
    await withCheckedContinuation { continuation in
      let passes = state.withLock { state in
        state.calls += 1
        if state.isShut { state.waiting.append(continuation) }
        return !state.isShut
      }
      if passes { continuation.resume() }
    }
  }

  func receive(_ uri: String, _ data: [UInt8], _ content: Content, _ call: NodeCall) async throws -> WriteOutcome {
    await pass()
    return try memory.receive(uri, data, content, call)
  }

  func read(_ uri: String, _ call: NodeCall) async throws -> Record? {
    await pass()
    return try memory.read(uri, call)
  }

  func list(_ request: ListRequest, _ call: NodeCall) async throws -> ListPage {
    await pass()
    return memory.list(request, call)
  }

  func remove(_ uri: String, _ call: NodeCall) async throws -> WriteOutcome? {
    await pass()
    return try memory.remove(uri, call)
  }

  func programs() -> [String] { memory.programs() }
  func normalise(_ uri: String) -> String? { memory.normalise(uri) }
}

/// One after the other: some count what the whole process has.
@Suite(.serialized) struct WebSocketTests {}

/// One text in several lines of the test.
func joined(_ parts: String...) -> String { parts.joined() }
