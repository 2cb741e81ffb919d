import ManagedNode
import PluginAPI

/// What the host knows of the node, as managed mode reads it.
struct HostReport: NodeReporting {
  let observe: ObserveAccess

  func slots() -> [SlotReport] {
    observe.health().slots.map { slot in
      let state: SlotReport.State =
        switch slot.state {
        case .healthy: .healthy
        case .degraded: .degraded
        case .unhealthy: .unhealthy
        }
      return SlotReport(
        name: slot.slot, kind: slot.kind, plugin: slot.plugin, version: slot.version, scheme: slot.scheme, state: state,
        message: slot.message)
    }
  }

  func operations() -> [String: CallCounts] {
    Dictionary(
      observe.operations().map {
        ($0.name, CallCounts(calls: $0.calls, failures: $0.failures, buckets: $0.buckets))
      }, uniquingKeysWith: { first, _ in first })
  }

  func listeningPorts() -> [Int] { OwnAddresses.listeningPorts() }
}
