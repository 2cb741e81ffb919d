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
        }, operations: { _, _, _ in }))
    return UnsafePointer(table)
  }()
}
