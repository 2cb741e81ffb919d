import ManagedNode
import PluginAPI

/// backplane.observe/1, as managed mode reads it.
struct HostReport: NodeReporting {
  let host: HostHandle

  private var table: UnsafePointer<bp_observe>? { host.extensionTable("backplane.observe/1", as: bp_observe.self) }

  func slots() -> [SlotReport] {
    guard let table else { return [] }
    var found: [SlotReport] = []
    var worst: UInt32 = 0
    withUnsafeMutablePointer(to: &found) { found in
      _ = table.pointee.health(host.instance, &worst, found) { context, slot in
        let slot = slot!.pointee
        let state: SlotReport.State =
          switch slot.state {
          case BP_HEALTH_HEALTHY: .healthy
          case BP_HEALTH_DEGRADED: .degraded
          default: .unhealthy
          }
        context!.assumingMemoryBound(to: [SlotReport].self).pointee.append(
          SlotReport(
            name: slot.slot.text, kind: slot.kind.text, plugin: slot.plugin.text, version: slot.version.text,
            scheme: slot.scheme.text, state: state, message: slot.message.text))
      }
    }
    return found
  }

  func operations() -> [String: OperationCounts] {
    guard let table, table.pointee.size >= .size(of: bp_observe.self) else { return [:] }
    var found: [String: OperationCounts] = [:]
    withUnsafeMutablePointer(to: &found) { found in
      table.pointee.operations(host.instance, found) { context, counts in
        let counts = counts!.pointee
        let buckets = UnsafeBufferPointer(start: counts.buckets, count: Int(counts.buckets_count))
        context!.assumingMemoryBound(to: [String: OperationCounts].self).pointee[counts.name.text] = OperationCounts(
          calls: counts.calls, failures: counts.failures, buckets: Array(buckets))
      }
    }
    return found
  }

  func listeningPorts() -> [Int] { OwnAddresses.listeningPorts() }
}
