import BackplaneABI
import Synchronization

/// backplane.observe/1.
enum ObserveTable {
  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_observe> = {
    let table = UnsafeMutablePointer<bp_observe>.allocate(capacity: 1)
    table.initialize(
      to: bp_observe(
        size: UInt32(MemoryLayout<bp_observe>.size), reserved: 0,
        health: { ObserveTable.health($0, $1, $2, $3) },
        metrics: { handle, sink in
          guard let instance = InstanceRegistry.shared.find(handle) else { return }
          var text = KernelMetrics.text(instance.kernel)
          text.withUTF8 { sink.write(sink.context, bp_view($0)) }
        }, operations: { ObserveTable.operations($0, $1, $2) }))
    return UnsafePointer(table)
  }()

  private static func health(
    _ handle: bp_instance, _ worst: UnsafeMutablePointer<UInt32>?, _ context: UnsafeMutableRawPointer?,
    _ add: (@convention(c) (UnsafeMutableRawPointer?, UnsafePointer<bp_slot_health>?) -> Void)?
  ) -> UInt32 {
    worst?.pointee = BP_HEALTH_UNHEALTHY
    guard let caller = InstanceRegistry.shared.find(handle), let lease = caller.kernel.ring.acquireAdmitted() else {
      return 0
    }
    defer { caller.kernel.ring.release(lease) }
    let report = Health.of(lease.generation)
    for slot in report.slots {
      var name = slot.name
      // Whoever lists the node's backends does not mean these.
      var kind = slot.isPeer ? "peer" : slot.kind
      var plugin = slot.plugin
      var version = slot.version
      var scheme = slot.scheme
      var message = slot.message
      name.withUTF8 { name in
        kind.withUTF8 { kind in
          plugin.withUTF8 { plugin in
            version.withUTF8 { version in
              scheme.withUTF8 { scheme in
                message.withUTF8 { message in
                  var slotHealth = bp_slot_health(
                    size: UInt32(MemoryLayout<bp_slot_health>.size), state: slot.state, slot: bp_view(name),
                    kind: bp_view(kind), plugin: bp_view(plugin), version: bp_view(version), scheme: bp_view(scheme),
                    message: bp_view(message))
                  add?(context, &slotHealth)
                }
              }
            }
          }
        }
      }
    }
    worst?.pointee = report.state
    return report.isReady ? BP_READY : 0
  }

  private static func operations(
    _ handle: bp_instance, _ context: UnsafeMutableRawPointer?,
    _ add: (@convention(c) (UnsafeMutableRawPointer?, UnsafePointer<bp_operation_counts>?) -> Void)?
  ) {
    guard let caller = InstanceRegistry.shared.find(handle) else { return }
    for operation in NodeOperation.allCases {
      let snapshot = caller.kernel.operations.snapshot(operation)
      var name = operation.name
      name.withUTF8 { name in
        snapshot.buckets.withUnsafeBufferPointer { buckets in
          var counts = bp_operation_counts(
            size: UInt32(MemoryLayout<bp_operation_counts>.size), buckets_count: UInt32(buckets.count),
            name: bp_view(name), calls: snapshot.count, failures: snapshot.failures, time_ns: snapshot.sumNs,
            buckets: buckets.baseAddress)
          add?(context, &counts)
        }
      }
    }
  }
}
