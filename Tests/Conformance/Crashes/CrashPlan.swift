import PluginAPI

/// What every writer writes, from its number alone: the writer and who looks afterwards need to tell each other nothing.
struct CrashPlan {
  let seed: UInt64
  let traits: BackendTraits

  static let writersCount = 4
  private static let slotsCount = 30
  private static let root = "\(TraceRun.roots[0])/crash"

  static func prefix(_ writer: Int) -> String { "\(root)/\(writer)/" }
  static func stamp(_ number: Int) -> UInt64 { UInt64(number + 1) }

  /// Two records that are only ever written together; one when units of several ops are not taken.
  func uris(_ writer: Int, slot: Int) -> [String] {
    (traits.isAtomic ? ["left", "right"] : ["left"]).map { "\(CrashPlan.prefix(writer))\($0)/\(slot)" }
  }

  func unit(_ writer: Int, _ number: Int) -> [Op] {
    uris(writer, slot: number % CrashPlan.slotsCount).map { uri in
      record(writer, number).map { .put(uri, $0.data, $0.content) } ?? .delete(uri)
    }
  }

  /// What the unit leaves in its records; nil: they are deleted.
  func record(_ writer: Int, _ number: Int) -> Record? {
    guard number % 7 != 6 else { return nil }
    var random = SeededGenerator(seed: seed ^ UInt64(number) << 8 ^ UInt64(writer))
    // Mostly small; some of several pages of whatever the store has.
    let size =
      random.oneIn(12) ? Int.random(in: 10_000..<60_000, using: &random) : Int.random(in: 0..<300, using: &random)
    let fill = UInt8.random(in: 0x61...0x7a, using: &random)
    return Record(
      data: Array("\"\(number) ".utf8) + [UInt8](repeating: fill, count: size) + [UInt8(ascii: "\"")], content: .json,
      timestampMs: BackendDriver.timestampMs(CrashPlan.stamp(number)),
      version: traits.keepsVersions ? CrashPlan.stamp(number) : 0)
  }

  /// What a slot holds when the units up to `last` have happened and no others.
  func record(_ writer: Int, slot: Int, after last: Int) -> Record? {
    guard last >= slot else { return nil }
    return record(writer, last - (last - slot) % CrashPlan.slotsCount)
  }

  static var slots: Range<Int> { 0..<slotsCount }
}
