import PluginAPI
import PluginTestHost

/// What the plugin says of itself, without judging it.
struct CapabilityTable {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  static let extensionsKnown = [
    "backplane.backend/1", "backplane.schema/1", "backplane.transport/1", "backplane.oracle/1", "backplane.llm/1",
    "backplane.service/1", "backplane.self_test/1", "backplane.preflight/1", "backplane.state/1",
    "backplane.backend.query/1", "backplane.transport.handoff/1",
  ]

  func fill() async {
    guard let host = try? bench.created() else { return }
    defer { host.destroy() }
    add("kinds", bench.plugin.kinds.joined(separator: ", "))
    let offered = CapabilityTable.extensionsKnown.filter { host.extensionTable($0, as: UInt32.self) != nil }
    add("extensions", offered.joined(separator: ", "))
    add("cancels calls", host.plugin.pointee.cancel == nil ? "no" : "yes")
    if let table = host.extensionTable("backplane.backend/1", as: bp_backend.self)?.pointee {
      add("apply", mode(table.apply_mode))
      add("read", mode(table.read_mode))
      add("scan", mode(table.scan_mode))
      add("atomic units", table.flags & BP_BACKEND_ATOMIC != 0 ? "yes" : "no")
      add("keeps versions", table.flags & BP_BACKEND_VERSIONS != 0 ? "yes" : "no")
      add("records are another node's", table.flags & BP_BACKEND_REMOTE != 0 ? "yes" : "no")
      add("durability at best", Durability(rawValue: table.durability_max).map { "\($0)" } ?? "\(table.durability_max)")
      add("records outlive the instance", bench.plugin.isVolatile ? "no" : "yes")
      add("is replaced without loss", replacement(host))
    }
    if let table = host.extensionTable("backplane.schema/1", as: bp_schema.self)?.pointee {
      add("judge", mode(table.judge_mode))
      add("judges deletes", table.flags & BP_SCHEMA_JUDGES_DELETES != 0 ? "yes" : "no")
      add("canonical URIs", table.canonical_uri == nil ? "no" : "yes")
    }
    if let table = host.extensionTable("backplane.service/1", as: bp_service.self)?.pointee {
      add("is told that the node serves", table.node_ready == nil ? "no" : "yes")
      add("is told that the node ends", table.node_ending == nil ? "no" : "yes")
    }
    if host.extensionTable("backplane.transport/1", as: bp_transport.self) != nil {
      add("listeners", bench.plugin.listeners.joined(separator: ", "))
    }
  }

  private func replacement(_ host: TestHost) -> String {
    if !bench.plugin.isVolatile { return "yes" }
    if let (version, _) = host.stateVersions { return "yes, by backplane.state/1, format \(version)" }
    return "no: its manifest says volatile and it offers no backplane.state/1, so a node replaces it only when told "
      + "--lose-state"
  }

  private func add(_ name: String, _ value: String) {
    bench.recording.add(Capability(name, value.isEmpty ? "none" : value))
  }
  private func mode(_ raw: UInt32) -> String { CallMode(rawValue: raw).map { "\($0)" } ?? "\(raw), which is no mode" }
}
