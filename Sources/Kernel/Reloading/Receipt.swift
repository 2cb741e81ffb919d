/// The recorded outcome of one reload: what was asked, what changed, what was refused and why, timings.
public struct Receipt: Codable, Sendable {
  public enum Outcome: String, Codable, Sendable {
    /// Everything that differed was taken.
    case applied
    /// Nothing differed.
    case unchanged
    /// Some was taken, some refused; what was refused still serves as before.
    case partly
    /// Nothing was taken; everything serves as before.
    case refused
    /// Slots went back to what served before; `rollbacks` says which and why.
    case rolledBack = "rolled back"
  }

  public struct Change: Codable, Sendable {
    public enum Action: String, Codable, Sendable { case added, replaced, removed }
    public var slot: String
    public var action: Action
    public var plugin: String
    /// Empty for a removed slot.
    public var version: String
    /// Empty for an added slot.
    public var previousVersion: String
    /// Why: `new file`, `new configuration`, `new slot`, `no longer configured`.
    public var reason: String
    /// SHA-256 of the file that serves now; empty for a removed slot.
    public var content: String
    /// What became of the predecessor's state: `moved 4096 bytes` or `cold: …`; nil when it kept none.
    public var state: String?

    enum CodingKeys: String, CodingKey {
      case slot, action, plugin, version, reason, content, state
      case previousVersion = "previous_version"
    }
  }

  public struct Refused: Codable, Sendable {
    /// Nil when it is not about one slot.
    public var slot: String?
    /// Nil when it is not about one file.
    public var file: String?
    /// The step of the transaction: `staged`, `verified`, `probed`, ...
    public var stage: String
    /// Stable, for programs; `configuration` when the configuration could not be read.
    public var code: String
    /// One sentence: file, reason, remedy.
    public var message: String

    init(slot: String?, _ refusal: Refusal) {
      self.slot = slot
      file = refusal.file.isEmpty ? nil : refusal.file
      stage = refusal.phase.rawValue
      code = refusal.code
      message = refusal.sentence
    }

    init(configuration problem: String) {
      slot = nil
      file = nil
      stage = "configuration"
      code = "configuration"
      message = problem
    }
  }

  /// One slot that went back.
  public struct Rollback: Codable, Sendable {
    /// What was compared; nil for a rollback by hand.
    public struct Figures: Codable, Sendable {
      /// `errors` (a share of the calls), or an operation (its p99 in milliseconds).
      public var measure: String
      public var value: Double
      public var valueBefore: Double
      public var samples: UInt64
      public var samplesBefore: UInt64

      enum CodingKeys: String, CodingKey {
        case measure, value, samples
        case valueBefore = "value_before"
        case samplesBefore = "samples_before"
      }
    }

    public var slot: String
    /// What serves again.
    public var plugin: String
    public var version: String
    public var content: String
    public var rolledBackVersion: String
    public var rolledBackContent: String
    /// One sentence.
    public var reason: String
    public var figures: Figures?

    enum CodingKeys: String, CodingKey {
      case slot, plugin, version, content, reason, figures
      case rolledBackVersion = "rolled_back_version"
      case rolledBackContent = "rolled_back_content"
    }
  }

  public struct Phase: Codable, Sendable {
    public var name: String
    public var durationMs: Double

    enum CodingKeys: String, CodingKey {
      case name
      case durationMs = "duration_ms"
    }
  }

  /// Counts up from 1 over the life of the state directory.
  public var id: UInt64
  /// What asked for it: `start`, `SIGHUP`, `control`, `plugins directory`, `configuration`; several joined by `, `.
  public var trigger: String
  public var outcome: Outcome
  /// UTC, ISO 8601.
  public var at: String
  public var durationMs: Double
  public var generationBefore: UInt64
  /// The generation that serves after it.
  public var generation: UInt64
  public var changes: [Change]
  public var refusals: [Refused]
  /// What is worth knowing and prevented nothing.
  public var notes: [String]
  public var phases: [Phase]
  /// Slots that went back; nil when none did.
  public var rollbacks: [Rollback]?

  enum CodingKeys: String, CodingKey {
    case id, trigger, outcome, at, generation, changes, refusals, notes, phases, rollbacks
    case durationMs = "duration_ms"
    case generationBefore = "generation_before"
  }
}
