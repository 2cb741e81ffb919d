import PluginAPI
import PluginTestHost
import Synchronization
import Testing

/// A backend whose units say when they begin, and that end when they are let go.
private final class Holding: Backend {
  struct Configuration: Decodable, Sendable {}
  static let threads = 4

  private struct State {
    var begun: [UInt64] = []
    var open: [UInt64: CheckedContinuation<Void, Never>] = [:]
    var watchers: [(version: UInt64, continuation: CheckedContinuation<Void, Never>)] = []
  }
  private static let state = Mutex(State())

  init(_ configuration: Configuration, _ context: Context) {}

  func apply(_ unit: WriteUnit) async throws -> Applied {
    await withCheckedContinuation { continuation in
      let watchers = Self.state.withLock { state in
        state.begun.append(unit.version)
        state.open[unit.version] = continuation
        let watching = state.watchers.filter { $0.version == unit.version }
        state.watchers.removeAll { $0.version == unit.version }
        return watching
      }
      for watcher in watchers { watcher.continuation.resume() }
    }
    return Applied()
  }

  func read(_ uri: String) async throws -> Record? { nil }
  func scan(prefix: String, after cursor: [UInt8]?, limit: Int) async throws -> ScanPage { ScanPage([]) }

  static var begun: [UInt64] { state.withLock { $0.begun } }

  static func waitUntilBegun(_ version: UInt64) async {
    await withCheckedContinuation { continuation in
      let isBegun = state.withLock { state in
        if state.begun.contains(version) { return true }
        state.watchers.append((version, continuation))
        return false
      }
      if isBegun { continuation.resume() }
    }
  }

  static func letGo(_ version: UInt64) { state.withLock { $0.open.removeValue(forKey: version) }?.resume() }
}

private let holding = PluginEntry(Holding.self, id: "org.example.holding", version: "1.0.0") {
  Holding.create($0, $1, $2)
}

/// What `bp_backend.apply` promises of the order, kept for backends that are written the easy way.
@Suite(.timeLimit(.minutes(1))) struct BackendOrderTests {
  @Test func unitsThatShareAURIRunOneAfterTheOther() async throws {
    let host = try TestHost(entry: holding.pointer, configuration: "{}")
    try await host.start()
    func put(_ uri: String) -> Op { .put("mutable://open/\(uri)", [0x31]) }
    let first = try host.beginApply([put("a")], version: 1)
    // Shares one URI with the first and one with the next.
    let second = try host.beginApply([put("b"), put("a")], version: 2)
    let third = try host.beginApply([put("b")], version: 3)
    let apart = try host.beginApply([put("c")], version: 4)
    await Holding.waitUntilBegun(1)
    await Holding.waitUntilBegun(4)
    Holding.letGo(4)
    _ = try await apart.value.get()
    #expect(Set(Holding.begun) == [1, 4])
    Holding.letGo(1)
    _ = try await first.value.get()
    await Holding.waitUntilBegun(2)
    #expect(!Holding.begun.contains(3))
    Holding.letGo(2)
    _ = try await second.value.get()
    await Holding.waitUntilBegun(3)
    Holding.letGo(3)
    _ = try await third.value.get()
    try await host.stop()
    host.destroy()
    #expect(host.violations.isEmpty, "\(host.violations)")
  }
}
