import BackplaneABI
import Synchronization

/// The host table (core.h): one constant, static for the life of the process. Instances are found by their handle, so a
/// call after destroy finds nothing.
enum HostTable {
  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_host> = {
    let table = UnsafeMutablePointer<bp_host>.allocate(capacity: 1)
    table.initialize(
      to: bp_host(
        size: UInt32(MemoryLayout<bp_host>.size), abi_major: BP_ABI_MAJOR, abi_minor: BP_ABI_MINOR, reserved: 0,
        complete: { instance, token, result in _ = CallSlab.shared.complete(instance, token, result!) },
        emit: { instance, token, chunk in CallSlab.shared.emit(instance, token, chunk!) },
        cancel: { handle, token in
          guard let instance = InstanceRegistry.shared.find(handle) else { return }
          if token & Feed.mark == Feed.mark { return instance.kernel.feed.cancel(handle, token) }
          if Timers.isOurs(token) { return instance.kernel.timers.cancel(handle, token) }
          instance.kernel.requests.cancel(instance, token)
        },
        grant: { handle, token, credits in
          guard token & Feed.mark == Feed.mark, let instance = InstanceRegistry.shared.find(handle) else {
            return BP_CLOSED
          }
          return instance.kernel.feed.grant(handle, token, credits)
        },
        log: { handle, level, message, fields, count in
          guard let instance = InstanceRegistry.shared.find(handle) else { return }
          instance.kernel.log.plugin(instance, level: level, message, fields, Int(count))
        },
        metric: { handle, metric, result in
          guard let instance = InstanceRegistry.shared.find(handle) else { return BP_CLOSED }
          return instance.metrics.define(metric!.pointee, result!)
        },
        record: { handle, metric, value in
          InstanceRegistry.shared.find(handle)?.metrics.record(metric, value)
        },
        health: { handle, state, message in
          guard let instance = InstanceRegistry.shared.find(handle) else { return }
          instance.health = (min(state, BP_HEALTH_UNHEALTHY), message.text)
        },
        extension: { handle, id in HostTable.find(id) }))
    return UnsafePointer(table)
  }()

  /// What `find` knows.
  static let extensions = [
    "backplane.node/1", "backplane.observe/1", "backplane.listener/1", FeedTable.id, TimerTable.id, ProposalTable.id,
  ]

  private static func find(_ id: bp_view) -> UnsafeRawPointer? {
    switch id.text {
    case "backplane.node/1": UnsafeRawPointer(NodeTable.pointer)
    case FeedTable.id: UnsafeRawPointer(FeedTable.pointer)
    case ProposalTable.id: UnsafeRawPointer(ProposalTable.pointer)
    case TimerTable.id: UnsafeRawPointer(TimerTable.pointer)
    case "backplane.observe/1": UnsafeRawPointer(ObserveTable.pointer)
    case "backplane.listener/1": UnsafeRawPointer(ListenerTable.pointer)
    default: nil
    }
  }
}
