/// What was tried and refused, or rolled back: content with a configuration. It is not tried again until one of the two
/// changes. What may have failed for a reason outside of both (a port that is taken, a server that is down) is tried
/// again when an operator asks for a reload.
struct RefusedBuilds: Codable, Sendable {
  private static let countMax = 1024
  /// These say that the same file with the same configuration will fail again.
  private static let lastingCodes: Set<String> = [
    Refusal.Code.probeCrashed, Refusal.Code.configurationRefused, Refusal.Code.selfTestFailed,
    Refusal.Code.descriptorDiffers, Refusal.Code.symbolMissing, Refusal.Code.kindMissing, Refusal.Code.rolledBack,
  ]

  private var entries: [String: Receipt.Refused] = [:]
  private var order: [String] = []

  subscript(identity: String) -> Receipt.Refused? { entries[identity] }

  mutating func add(_ identity: String, _ refused: Receipt.Refused) {
    if entries.updateValue(refused, forKey: identity) == nil { order.append(identity) }
    if order.count > RefusedBuilds.countMax { entries[order.removeFirst()] = nil }
  }

  mutating func forgetRetriable() {
    entries = entries.filter { RefusedBuilds.lastingCodes.contains($0.value.code) }
    order.removeAll { entries[$0] == nil }
  }

  mutating func forgetAll() { self = RefusedBuilds() }
}
