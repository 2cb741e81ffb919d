import ManagedNode

/// What the node says of itself at CONFIG_URL.
extension Manager {
  /// The last word: nothing is written after it.
  func writeOffline() async {
    end()
    await writeStatus(isEnd: true)
  }

  func writeStatus(isEnd: Bool = false) async {
    // One after the other, so that an older one does not come last.
    if !statusTurn.take() { await withCheckedContinuation { statusTurn.wait($0) } }
    defer { statusTurn.end() }
    guard isEnd || !isEnding else { return }
    let backends = backendStates()
    let problem = problem
    let isDegraded = problem != nil || backends.contains { $0.status != NodeStatus.Backend.connected }
    let ports = around.node.listeningPorts()
    let wanted = inForce?.configuration.server.portNumber
    let status = NodeStatus(
      nodeId: identity.nodeID, name: inForce?.configuration.name ?? identity.nodeID,
      status: isEnd ? .offline : isDegraded ? .degraded : .online, lastHeartbeatMs: Int64(around.clock.wallMs),
      uptimeMs: Int64((around.clock.monotonicNs - beganNs) / 1_000_000),
      configTimestampMs: inForce.map { Int64($0.record.timestampMs) } ?? 0,
      port: wanted.flatMap { ports.contains($0) ? $0 : nil } ?? ports.first ?? wanted, backends: backends,
      metrics: isMeasuring ? currentMetrics() : nil, problem: problem.map { String($0.prefix(2_000)) })
    await write("status", .status(nodeId: identity.nodeID), status.text, "[heartbeat] Failed to write status:")
  }

  /// Reports the window that ends now, when the configuration wants it, and begins the next.
  func writeMetrics() async {
    let metrics = currentMetrics()
    window = MetricsWindow(around.node.operations(), atNs: around.clock.monotonicNs)
    guard isMeasuring else { return }
    await write("metrics", .metrics(nodeId: identity.nodeID), metrics.text, "[metrics] Failed to write metrics:")
  }

  private var isMeasuring: Bool { inForce?.configuration.monitoring.metricsEnabled ?? false }

  private func currentMetrics() -> NodeMetrics {
    window.metrics(around.node.operations(), atNs: around.clock.monotonicNs)
  }

  private func write(_ report: String, _ document: ManagedDocument, _ text: [UInt8], _ complaint: String) async {
    do {
      let message = try document.seal(
        text, signers: [identity.signer], encryptingTo: identity.operatorEncryptionKey)
      try await around.store.write(document.uri, message)
      around.meter.reported(report, failed: false)
      complaints.forget(report)
    } catch {
      guard !isEnding || report == "status" else { return }
      around.meter.reported(report, failed: true)
      complain(report, "\(complaint) \(error)")
    }
  }

  /// The configuration's backends as the host sees their slots; without a configuration those that there are.
  private func backendStates() -> [NodeStatus.Backend] {
    var slots = around.node.slots().filter { $0.kind == "backend" }
    func state(_ slot: SlotReport?) -> String {
      slot.map { $0.state == .unhealthy } ?? true ? NodeStatus.Backend.error : NodeStatus.Backend.connected
    }
    guard let inForce else {
      return slots.map { slot in
        let type = ManagedConfiguration.Backend.Kind.allCases.first {
          BackendEntry.schemes($0).contains(slot.scheme)
        }
        return NodeStatus.Backend(type: type?.rawValue ?? slot.scheme, status: state(slot))
      }
    }
    // In the order of the proposal; peers come behind.
    return inForce.configuration.backends.map { backend in
      let place = slots.firstIndex { BackendEntry.schemes(backend.type).contains($0.scheme) }
      return NodeStatus.Backend(type: backend.type.rawValue, status: state(place.map { slots.remove(at: $0) }))
    }
  }
}
