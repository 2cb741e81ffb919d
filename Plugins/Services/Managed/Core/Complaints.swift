/// What has been complained of, so that the same is not said over and over.
struct Complaints {
  /// The same sentence of one subject is said again after this long at the earliest.
  static let intervalNs: UInt64 = 10_000_000_000

  private var last: [String: (text: String, atNs: UInt64)] = [:]

  /// Whether to say it now. `once`: never a second time, until something else is said or the subject is forgotten.
  mutating func shouldSay(_ subject: String, _ text: String, nowNs: UInt64, once: Bool = false) -> Bool {
    if let before = last[subject], before.text == text, once || nowNs &- before.atNs < Self.intervalNs { return false }
    last[subject] = (text, nowNs)
    return true
  }

  mutating func forget(_ subject: String) { last[subject] = nil }
}
