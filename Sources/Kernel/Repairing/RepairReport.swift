/// What a backend that is behind has missed, and how its repair gets on: `repair` of its slot in `backplane status`.
public struct RepairReport: Codable, Sendable, Equatable {
  public enum Phase: String, Codable, Sendable {
    /// What it missed is being written to it.
    case repairing
    /// The last attempt failed; there will be another.
    case waiting
    /// The journal has nothing more, and there is something that it could not make good: `backplane backend accept`
    /// ends that.
    case incomplete
  }

  public var phase: Phase
  /// Writes in the journal that the backend does not have yet, and their size in bytes.
  public var units: Int
  public var bytes: Int
  /// When the oldest of them was written, ms since 1970.
  public var oldestMs: UInt64?
  /// Why it fell behind.
  public var reason: String?
  /// Why the last attempt failed.
  public var attempt: String?
  /// What the journal cannot make good.
  public var incomplete: String?
  /// Calls that were open in the backend when it fell behind; the repair begins when they have ended.
  public var callsWaitedFor: Int

  enum CodingKeys: String, CodingKey {
    case phase, units, bytes, reason, attempt, incomplete
    case oldestMs = "oldest_ms"
    case callsWaitedFor = "calls_waited_for"
  }

  /// For health and logs.
  public var sentence: String {
    var parts: [String] = []
    if let incomplete { parts.append("\(incomplete); `backplane backend accept` ends that") }
    if phase != .incomplete {
      parts.append("it missed acknowledged writes (\(reason ?? "")), of which \(units) are still to be repaired")
    }
    if let attempt { parts.append("last attempt: \(attempt)") }
    if callsWaitedFor > 0, phase != .incomplete { parts.append("\(callsWaitedFor) calls have to end before") }
    return "behind: " + parts.joined(separator: "; ")
  }
}
