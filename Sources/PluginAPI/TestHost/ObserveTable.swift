import PluginAPI

/// backplane.observe/1 of a host that has one slot: the plugin under test.
enum ObserveTable {
  // nonisolated(unsafe): written once by its initialiser, read only, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_observe> = {
    let table = UnsafeMutablePointer<bp_observe>.allocate(capacity: 1)
    table.initialize(
      to: bp_observe(
        size: .size(of: bp_observe.self), reserved: 0,
        health: { instance, worst, context, add in
          guard let core = HostRegistry.find(instance, "observe.health"), !core.isProbe else { return 0 }
          if let health = core.state.withLock({ $0.observedHealth }) { return script(health, worst, context, add) }
          let report = core.state.withLock { $0.health } ?? HealthReport(state: .healthy, message: "")
          worst?.pointee = report.state.rawValue
          core.slot.withView { slot in
            report.message.withView { message in
              var health = bp_slot_health()
              health.size = .size(of: bp_slot_health.self)
              health.state = report.state.rawValue
              health.slot = slot
              health.message = message
              add?(context, &health)
            }
          }
          return report.state == .unhealthy ? 0 : BP_READY
        },
        metrics: { instance, sink in
          guard let core = HostRegistry.find(instance, "observe.metrics"), !core.isProbe else { return }
          let lines = core.state.withLock { $0.metrics }.map { "\($0.name) \($0.value)\n" }.joined() + "# EOF\n"
          lines.withView { sink.write(sink.context, $0) }
        },
        operations: { instance, context, add in
          guard let core = HostRegistry.find(instance, "observe.operations"), !core.isProbe else { return }
          for counts in core.state.withLock({ $0.observedOperations }) {
            counts.name.withView { name in
              counts.buckets.withUnsafeBufferPointer { buckets in
                var raw = bp_operation_counts(
                  size: .size(of: bp_operation_counts.self), buckets_count: UInt32(buckets.count), name: name,
                  calls: counts.calls, failures: counts.failures, time_ns: counts.timeNs, buckets: buckets.baseAddress)
                add?(context, &raw)
              }
            }
          }
        }))
    return UnsafePointer(table)
  }()

  private static func script(
    _ health: NodeHealth, _ worst: UnsafeMutablePointer<UInt32>?, _ context: UnsafeMutableRawPointer?,
    _ add: (@convention(c) (UnsafeMutableRawPointer?, UnsafePointer<bp_slot_health>?) -> Void)?
  ) -> UInt32 {
    worst?.pointee = health.state.rawValue
    for slot in health.slots {
      let arena = RequestArena()
      var raw = bp_slot_health(
        size: .size(of: bp_slot_health.self), state: slot.state.rawValue, slot: arena.view(slot.slot),
        kind: arena.view(slot.kind), plugin: arena.view(slot.plugin), version: arena.view(slot.version),
        scheme: arena.view(slot.scheme), message: arena.view(slot.message))
      withExtendedLifetime(arena) { add?(context, &raw) }
    }
    return health.isReady ? BP_READY : 0
  }
}
