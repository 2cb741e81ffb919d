import BackendSupport
import BackendTesting
import Glibc
import MongoDBBackend
import MongoWireServer
import PluginAPI
import Synchronization
import Testing

/// A server and an instance that keeps its records there.
struct Bench {
  let server: MongoWireServer
  let backend: TestBackend

  /// `options` are added to the URL, `keys` to the slot's configuration.
  init(
    _ persona: Persona = .replicaSet(name: "rs0"), options: String = "", keys: String = "",
    prepare: (MongoWireServer) throws -> Void = { _ in }
  ) throws {
    server = MongoWireServer(persona)
    try prepare(server)
    backend = try Bench.start(server.url(options: options), keys: keys)
  }

  static func start(_ url: String, keys: String = "") throws -> TestBackend {
    try TestBackend.started(
      MongoDBBackend.self, #"{"url":"\#(url)"\#(keys.isEmpty ? "" : "," + keys)}"#)
  }

  /// The sentence that a start is refused with.
  static func refusal(_ url: String, keys: String = "") -> Refused? {
    do {
      let backend = try start(url, keys: keys)
      try? backend.stop()
      return nil
    } catch {
      return error as? Refused
    }
  }
}

extension TestBackend {
  func put(_ uri: String, _ text: String, version: UInt64 = 1, if condition: Condition = .any) -> Answer {
    apply(
      [.put(uri, Array(text.utf8), .json, if: condition)], timestampMs: 1_700_000_000_000 + version, version: version)
  }

  /// The record's data as text.
  func text(_ uri: String) -> String? { read(uri).record.map { String(decoding: $0.data, as: UTF8.self) } }

  /// Waits until health is in `state`.
  func waitForHealth(_ state: UInt32) -> Bool { wait { health.last?.state ?? BP_HEALTH_HEALTHY == state } }
}

/// Looks until it is so, for a minute at most: nothing tells when the other side has seen something.
func wait(until isSo: () -> Bool) -> Bool {
  for _ in 0..<6_000 {
    if isSo() { return true }
    usleep(10_000)
  }
  return isSo()
}

/// Numbers that rise, for several threads.
final class Stamps: Sendable {
  private let value: Mutex<UInt64>
  init(_ first: UInt64) { value = Mutex(first) }
  var count: UInt64 { value.withLock { $0 } }
  func next() -> UInt64 {
    value.withLock { value in
      defer { value += 1 }
      return value
    }
  }
}
