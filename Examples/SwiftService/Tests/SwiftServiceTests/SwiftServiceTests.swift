import PluginAPI
import PluginTestHost
import Testing

@testable import SwiftService

@Suite struct SwiftServiceTests {
  private let node = InMemoryNode()
  private let timers = TestTimers(isManual: true)

  private func text(_ uri: String) -> String? { node.records[uri].map { String(decoding: $0.data, as: UTF8.self) } }

  @Test func itBeatsUntilTheNodeEnds() async throws {
    let host = try TestHost(entry: plugin.pointer, configuration: #"{"interval_ms": 1000}"#, node: node, timers: timers)
    try await host.start()
    try await host.nodeReady()
    #expect(text("mutable://open/swift-service") == #"{"beats":1,"state":"up"}"#)
    await timers.waitUntilPending()
    // The clock stands until the test moves it.
    timers.advance(by: .seconds(1))
    await timers.waitUntilPending()
    #expect(text("mutable://open/swift-service") == #"{"beats":2,"state":"up"}"#)
    try await host.nodeEnding()
    #expect(text("mutable://open/swift-service") == #"{"beats":3,"state":"ended"}"#)
    try await host.quiesce()
    #expect(timers.pendingCount == 0)
    try await host.stop()
    #expect(host.violations.isEmpty)
  }

  @Test func aNodeThatRefusesIsToldOf() async throws {
    node.refuse(.unavailable("the disk is full"))
    let host = try TestHost(entry: plugin.pointer, node: node, timers: timers)
    try await host.start()
    await #expect(throws: Failure.self) { try await host.nodeReady() }
    try await host.stop()
    #expect(host.violations.isEmpty)
  }

  @Test func anIntervalThatWillNotDoIsRefused() {
    #expect(throws: TestHostError.self) { try TestHost(entry: plugin.pointer, configuration: #"{"interval_ms": 1}"#) }
  }
}
