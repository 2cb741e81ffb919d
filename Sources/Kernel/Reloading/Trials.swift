/// The slots that are on probation, and what each would go back to.
///
/// The target is the last one that passed: a reload during a probation replaces the candidate and keeps the target.
struct Trials {
  /// What a slot can go back to.
  struct Target {
    let slot: SlotConfiguration
    let plugin: VerifiedPlugin
    /// Still started, and pinned so that it stays; nil when a fresh instance would be made.
    var warm: Instance?
    let sample: Probation.Sample
    /// The formats of state that it reads; nil when it has none.
    let stateFormats: ClosedRange<UInt32>?
    /// The last generation that it served in.
    let generation: UInt64
  }

  struct Trial {
    var target: Target
    var candidate: Instance
    var sinceNs: UInt64
    /// When it was first found to be worse; 0 when it is not.
    var worseSinceNs: UInt64 = 0
  }

  /// A regression counts when it still holds after so long: the first calls of a new instance fall into the turbulence of
  /// the reload itself.
  static let worseForNs: UInt64 = 1_000_000_000

  /// boundary.md, "Handover of state".
  static let warmGenerationsMax = 2

  private(set) var running: [String: Trial] = [:]
  /// What the last replacement of each slot came after, for a rollback by hand once the probation is over.
  private(set) var passed: [String: Target] = [:]
  /// The slots that the last publication replaced.
  private(set) var lastReplaced: [String] = []

  func target(of slot: String) -> Target? { running[slot]?.target ?? passed[slot] }

  /// Content that a rollback would load: its staged copy is kept.
  var contentHashes: Set<String> {
    Set(running.values.map(\.target.plugin.contentHash) + passed.values.map(\.plugin.contentHash))
  }

  /// A publication has replaced `target` in these slots. Answers warm instances that are not needed any more.
  mutating func began(_ replaced: [(target: Target, candidate: Instance)], nowNs: UInt64, isWatched: Bool) -> [Instance]
  {
    var cooled: [Instance] = []
    for (target, candidate) in replaced {
      let name = target.slot.name
      if var trial = running[name] {
        // What was replaced had not passed: its own predecessor stays the target.
        trial.candidate = candidate
        trial.sinceNs = nowNs
        trial.worseSinceNs = 0
        running[name] = trial
        if let warm = target.warm { cooled.append(warm) }
      } else if isWatched {
        running[name] = Trial(target: target, candidate: candidate, sinceNs: nowNs)
        passed[name] = nil
      } else {
        if let warm = target.warm { cooled.append(warm) }
        passed[name] = target.cold
      }
    }
    if !replaced.isEmpty { lastReplaced = replaced.map(\.target.slot.name) }
    return cooled + coolOldest()
  }

  /// At most two generations are warm: of more, the oldest go cold.
  private mutating func coolOldest() -> [Instance] {
    let generations = Set(running.values.filter { $0.target.warm != nil }.map(\.target.generation)).sorted()
    let kept = Set(generations.suffix(Trials.warmGenerationsMax))
    var cooled: [Instance] = []
    for (name, trial) in running where !kept.contains(trial.target.generation) {
      guard let warm = trial.target.warm else { continue }
      cooled.append(warm)
      running[name]?.target.warm = nil
    }
    return cooled
  }

  /// The candidate of a slot was looked at. True when it has been worse for long enough.
  mutating func found(_ slot: String, isWorse: Bool, nowNs: UInt64) -> Bool {
    guard var trial = running[slot] else { return false }
    trial.worseSinceNs = !isWorse ? 0 : trial.worseSinceNs == 0 ? nowNs : trial.worseSinceNs
    running[slot] = trial
    return isWorse && nowNs - trial.worseSinceNs >= Trials.worseForNs
  }

  /// The slot has passed, has gone back, or is not there any more. Answers a warm instance that is not needed any more.
  mutating func ended(_ slot: String, keepsTarget: Bool) -> Instance? {
    let trial = running.removeValue(forKey: slot)
    passed[slot] = keepsTarget ? trial?.target.cold ?? passed[slot] : nil
    return trial?.target.warm
  }

  mutating func endAll() -> [Instance] {
    defer { self = Trials() }
    return running.values.compactMap(\.target.warm)
  }
}

extension Trials.Target {
  var cold: Trials.Target {
    var copy = self
    copy.warm = nil
    return copy
  }
}
