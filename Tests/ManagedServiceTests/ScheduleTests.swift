import ManagedNode
import Testing

@testable import ManagedService

/// When what is done: by the clock of the test.
@Suite struct ScheduleTests {
  private func running(_ scene: Scene, _ body: (Manager) async throws -> Void) async throws {
    let manager = scene.manager()
    let work = Task { await manager.run() }
    await scene.clock.settled(5)
    do { try await body(manager) } catch { Issue.record(error) }
    work.cancel()
    await manager.end()
    await work.value
  }

  private func polls(_ scene: Scene) -> Int { scene.meter.state.withLock { $0.polls } }

  @Test func intervalsFollowTheConfiguration() async throws {
    let scene = try Scene()
    try await running(scene) { manager in
      #expect(polls(scene) == 1)
      #expect(scene.store.writes(to: scene.statusURI).count == 1)
      await scene.clock.advance(ms: 29_999)
      #expect(polls(scene) == 1)
      try scene.publish(scene.configuration(heartbeatMs: 5_000, pollMs: 2_000, metrics: true))
      await scene.clock.advance(ms: 1)
      #expect(polls(scene) == 2)
      // A heartbeat was due 25 s ago by what holds now.
      await scene.clock.settled(5)
      await scene.clock.advance(ms: 0)
      #expect(scene.store.writes(to: scene.statusURI).count == 2)
      await scene.clock.advance(ms: 2_000)
      #expect(polls(scene) == 3)
      await scene.clock.advance(ms: 2_000)
      await scene.clock.advance(ms: 1_000)
      #expect(polls(scene) == 4)
      #expect(scene.store.writes(to: scene.statusURI).count == 3)
      // Longer again: what slept for two seconds sleeps on.
      try scene.publish(scene.configuration(heartbeatMs: 60_000, pollMs: 60_000))
      await scene.clock.advance(ms: 1_000)
      #expect(polls(scene) == 5)
      await scene.clock.advance(ms: 59_999)
      #expect(polls(scene) == 5)
      await scene.clock.advance(ms: 1)
      #expect(polls(scene) == 6)
    }
  }

  @Test func nobodyIsAskedMoreOftenThanTenTimesASecond() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration(heartbeatMs: 0, pollMs: -5))
    try await running(scene) { manager in
      await scene.clock.advance(ms: 99)
      #expect(polls(scene) == 1)
      await scene.clock.advance(ms: 1)
      #expect(polls(scene) == 2)
    }
  }

  @Test func metricsComeEveryHalfMinute() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration(metrics: true))
    try await running(scene) { manager in
      #expect(scene.store.writes(to: scene.metricsURI).isEmpty)
      await scene.clock.advance(ms: 30_000)
      #expect(scene.store.writes(to: scene.metricsURI).count == 1)
      await scene.clock.advance(ms: 30_000)
      #expect(scene.store.writes(to: scene.metricsURI).count == 2)
    }
  }

  @Test func theEndIsPrompt() async throws {
    let scene = try Scene()
    let manager = scene.manager()
    let work = Task { await manager.run() }
    await scene.clock.settled(5)
    await manager.writeOffline()
    await manager.writeStatus()
    work.cancel()
    await work.value
    #expect(try scene.statuses().map(\.status) == [.online, .offline])
  }
}
