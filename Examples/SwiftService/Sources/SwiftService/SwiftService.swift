import PluginAPI
import Synchronization

/// A sign of life: counts its beats in one record, and says there when the node ends.
final class SwiftService: Service {
  struct Configuration: Decodable {
    /// The record.
    var uri: String?
    var interval_ms: Int?
  }

  private let context: Context
  private let uri: String
  private let interval: Duration
  private let beats = Atomic<Int>(0)

  init(_ configuration: Configuration, _ context: Context) throws {
    let intervalMs = configuration.interval_ms ?? 10_000
    guard (10...86_400_000).contains(intervalMs) else {
      throw ConfigurationProblem(
        pointer: "/interval_ms", message: "the interval must be 10 ms to a day, but is \(intervalMs) ms")
    }
    self.context = context
    uri = configuration.uri ?? "mutable://open/swift-service"
    interval = .milliseconds(intervalMs)
  }

  /// The first beat: a node that refuses it makes the slot unhealthy, with the node's words.
  func nodeReady(_ deadline: Deadline) async throws { try await write("up") }

  /// Begins after that, and ends in the sleep when the service is replaced or the node ends.
  func run() async throws {
    while true {
      try await context.timer.sleep(for: interval)
      do {
        try await write("up")
        context.health(.healthy)
      } catch {
        guard !Task.isCancelled else { throw error }
        context.health(.degraded, "a beat was not written: \(Failure(error).message)")
      }
    }
  }

  func nodeEnding(_ deadline: Deadline) async { try? await write("ended") }

  private func write(_ state: String) async throws {
    let count = beats.add(1, ordering: .relaxed).newValue
    try await context.node.receive(uri, Array(#"{"beats":\#(count),"state":"\#(state)"}"#.utf8))
  }
}

// Id and version as in manifest.json: the kernel compares them.
let plugin = PluginEntry(SwiftService.self, id: "org.example.swift-service", version: "1.0.0") {
  SwiftService.create($0, $1, $2)
}
@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
