/// Reads the kernel's keys of a peer: `peer`, `push` and `pull` of a backend slot.
struct PeerReader {
  static let keys = ["peer", "push", "pull"]
  private static let pushKeys = ["durable", "queue_units_max", "queue_size_bytes_max"]
  private static let pullKeys = ["timeout_ms"]
  static let unitsRange: ClosedRange<Int64> = 1...10_000_000
  static let bytesRange: ClosedRange<Int64> = 65_536...1_099_511_627_776
  static let timeoutRange: ClosedRange<Int64> = 1...600_000

  let slot: ConfigurationMapping
  /// Of the slot.
  let pointer: String

  /// Nil when the slot is no peer, or what it says is wrong.
  func read(problems: inout ProblemList) -> PeerSettings? {
    guard let node = slot["peer"] else {
      for key in ["push", "pull"] {
        guard let node = slot[key] else { continue }
        problems.add(
          node.origin, pointer: "\(pointer)/\(key)",
          "\(key) is about a peer, and this backend is none. Give it peer: with one of \(Self.directions), or leave \(key) out."
        )
      }
      return nil
    }
    guard case .text(let text) = node.value, let direction = PeerSettings.Direction(rawValue: text) else {
      var hint = ""
      if case .text(let text) = node.value {
        hint = Suggestion.sentence(for: text, among: PeerSettings.Direction.allCases.map(\.rawValue))
      }
      problems.add(
        node.origin, pointer: pointer + "/peer",
        "The value must be one of \(Self.directions), but is \(node.value.found).\(hint)")
      return nil
    }
    var settings = PeerSettings(direction)
    if let push = mapping("push", isOfUse: settings.pushes, direction, problems: &problems) {
      for entry in push.entries {
        let place = JSONPointer.appending(entry.key, to: pointer + "/push")
        switch entry.key {
        case "durable":
          guard case .boolean(let value) = entry.node.value else {
            problems.add(
              entry.node.origin, pointer: place, "The value must be true or false, but is \(entry.node.value.found).")
            continue
          }
          settings.push.isDurable = value
        case "queue_units_max":
          integer(entry, place, Self.unitsRange, &settings.push.queueUnitsMax, problems: &problems)
        case "queue_size_bytes_max":
          integer(entry, place, Self.bytesRange, &settings.push.queueSizeBytesMax, problems: &problems)
        default: unknown(entry, place, Self.pushKeys, problems: &problems)
        }
      }
    }
    if let pull = mapping("pull", isOfUse: settings.pulls, direction, problems: &problems) {
      for entry in pull.entries {
        let place = JSONPointer.appending(entry.key, to: pointer + "/pull")
        switch entry.key {
        case "timeout_ms":
          integer(entry, place, Self.timeoutRange, &settings.pull.timeoutMs, problems: &problems)
        default: unknown(entry, place, Self.pullKeys, problems: &problems)
        }
      }
    }
    return settings
  }

  private static let directions = PeerSettings.Direction.allCases.map(\.rawValue).joined(separator: ", ")

  private func mapping(
    _ key: String, isOfUse: Bool, _ direction: PeerSettings.Direction, problems: inout ProblemList
  ) -> ConfigurationMapping? {
    guard let node = slot[key] else { return nil }
    guard isOfUse else {
      problems.add(
        node.origin, pointer: "\(pointer)/\(key)",
        "\(key) has no effect on a peer that is \(direction.rawValue) only. Leave it out, or make the peer bidirectional."
      )
      return nil
    }
    guard case .mapping(let mapping) = node.value else {
      problems.add(
        node.origin, pointer: "\(pointer)/\(key)",
        "The value must be a mapping of \((key == "push" ? Self.pushKeys : Self.pullKeys).joined(separator: ", ")), but is "
          + "\(node.value.found).")
      return nil
    }
    return mapping
  }

  private func integer(
    _ entry: ConfigurationMapping.Entry, _ place: String, _ range: ClosedRange<Int64>, _ into: inout Int,
    problems: inout ProblemList
  ) {
    guard case .integer(let value) = entry.node.value, range.contains(value) else {
      problems.add(
        entry.node.origin, pointer: place,
        "The value must be a whole number from \(range.lowerBound) to \(range.upperBound), but is "
          + "\(entry.node.value.found).")
      return
    }
    into = Int(value)
  }

  private func unknown(
    _ entry: ConfigurationMapping.Entry, _ place: String, _ known: [String], problems: inout ProblemList
  ) {
    problems.add(
      entry.keyOrigin, pointer: place,
      "The key \(Redaction.quoted(entry.key)) is unknown.\(Suggestion.sentence(for: entry.key, among: known))")
  }
}
