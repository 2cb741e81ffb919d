/// Puts slots into their order: by kind, then `order`, then name. A YAML mapping has no order of its own, and the order
/// of backends decides who answers a read, so theirs must be said.
enum SlotOrdering {
  static func order(
    _ slots: [SlotConfiguration], names value: ScalarLayer.Value?, mapping: ConfigurationMapping,
    problems: inout ProblemList
  ) -> [SlotConfiguration] {
    var slots = slots
    let backends = slots.filter { $0.kind == .backend && $0.peer == nil }
    if backends.isEmpty, problems.isEmpty {
      let peers = slots.filter { $0.peer != nil }.map(\.name)
      problems.add(
        .builtIn, pointer: "/slots",
        peers.isEmpty
          ? "The node has no backend. Add a slot with kind: backend, or set BACKEND_URL."
          : "The node has peers (\(peers.joined(separator: ", "))) and no backend of its own to keep its records in. Add a slot "
            + "with kind: backend and without peer:, or set BACKEND_URL.")
    }
    if let value, case .stringArray(let names) = value.content {
      slots = apply(names, value.origin, to: slots, problems: &problems)
    } else {
      requireDistinctOrders(backends, mapping, problems: &problems)
    }
    func rank(_ slot: SlotConfiguration) -> (Int, Int, Int, String) {
      let kind = SlotConfiguration.Kind.allCases.firstIndex(of: slot.kind)!
      return (kind, slot.peer == nil ? 0 : 1, slot.order, slot.name)
    }
    return slots.sorted { rank($0) < rank($1) }
  }

  private static func apply(
    _ names: [String], _ origin: ConfigurationOrigin, to slots: [SlotConfiguration], problems: inout ProblemList
  ) -> [SlotConfiguration] {
    let pointer = "/node/backends"
    let backends = slots.filter { $0.kind == .backend && $0.peer == nil }.map(\.name)
    let peers = slots.filter { $0.peer != nil }.map(\.name)
    var places: [String: Int] = [:]
    for (index, name) in names.enumerated() {
      if places.updateValue(index, forKey: name) != nil {
        problems.add(origin, pointer: "\(pointer)/\(index)", "The backend \(Redaction.quoted(name)) is named twice.")
      }
      if peers.contains(name) {
        problems.add(
          origin, pointer: "\(pointer)/\(index)",
          "The slot \(Redaction.quoted(name)) is a peer, which is not among the backends that are read from in order. Leave it "
            + "out; its own order: says when it is asked among the peers.")
      } else if !backends.contains(name) {
        problems.add(
          origin, pointer: "\(pointer)/\(index)",
          "There is no backend slot \(Redaction.quoted(name)).\(Suggestion.sentence(for: name, among: backends))")
      }
    }
    for name in backends where places[name] == nil {
      problems.add(origin, pointer: pointer, "The list leaves out the backend slot \(name). Name every one.")
    }
    return slots.map { slot in
      guard slot.kind == .backend, slot.peer == nil, let place = places[slot.name] else { return slot }
      return slot.with(order: place)
    }
  }

  private static func requireDistinctOrders(
    _ backends: [SlotConfiguration], _ mapping: ConfigurationMapping, problems: inout ProblemList
  ) {
    for (order, group) in Dictionary(grouping: backends, by: \.order).sorted(by: { $0.key < $1.key })
    where group.count > 1 {
      let names = group.map(\.name).sorted()
      problems.add(
        mapping[names[0]]?.origin ?? .builtIn, pointer: "/slots/\(names[0])",
        "The backends \(names.joined(separator: ", ")) have the same order (\(order)), and reads need to know which comes "
          + "first. Give each its own order:, or list them in node.backends.")
    }
  }
}

extension SlotConfiguration {
  func with(order: Int) -> SlotConfiguration {
    var slot = SlotConfiguration(
      name: name, kind: kind, plugin: plugin, pluginPath: pluginPath, scheme: scheme, order: order, json: json,
      redactedJSON: redactedJSON, origins: origins)
    slot.isolation = isolation
    slot.processLimits = processLimits
    slot.mayPropose = mayPropose
    slot.peer = peer
    return slot
  }
}
