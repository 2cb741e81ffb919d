/// Where an instance runs.
public enum IsolationMode: String, Sendable, Equatable, Codable {
  case inProcess = "in"
  case process
}

/// Decides where an instance runs: what the slot says, else what the policy and the manifest come to.
enum IsolationChoice {
  /// - Parameters:
  ///   - policy: `isolation.default`.
  ///   - isQuarantined: its content has crashed the kernel before.
  /// - Throws: when the slot and the manifest contradict each other.
  static func decide(
    _ slot: SlotConfiguration, _ plugin: VerifiedPlugin, policy: NodeConfiguration.Isolation.Policy,
    isQuarantined: Bool = false
  ) throws(Refusal) -> IsolationMode {
    let wish = plugin.manifest.isolation
    func refuse(_ reason: String) -> Refusal {
      Refusal(
        file: plugin.sourcePath, phase: .verified, code: Refusal.Code.isolationRefused,
        sentence: "\(Wording.printable(plugin.sourcePath)): \(reason)")
    }
    if let asked = slot.isolation {
      switch (asked, wish) {
      case (.process, .inProcess):
        throw refuse(
          "slot '\(slot.name)' says isolation: process, but the plugin's manifest allows only isolation in the kernel's "
            + "process (in); take the key out of the slot or use a plugin that allows it")
      case (.inProcess, .process):
        throw refuse(
          "slot '\(slot.name)' says isolation: in, but the plugin's manifest wants a process of its own; take the key "
            + "out of the slot")
      case (.inProcess, _):
        guard !isQuarantined else { break }
        return .inProcess
      case (.process, _): return .process
      }
    }
    if isQuarantined {
      guard wish != .inProcess else {
        throw refuse(
          "it has crashed the node before, and its manifest does not allow a process of its own; mend it and drop it in "
            + "again")
      }
      return .process
    }
    switch wish {
    case .process: return .process
    case .inProcess: return .inProcess
    case .any: return policy == .process ? .process : .inProcess
    }
  }
}

extension Refusal.Code {
  static let isolationRefused = "slot.isolation-refused"
}
