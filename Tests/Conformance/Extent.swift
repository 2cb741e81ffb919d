/// How much the suite does.
public struct Extent: Codable, Sendable, Equatable {
  /// Of `backend.many-records`.
  public var recordsCount: Int
  /// Cycles of `backend.growth` that are measured.
  public var growthCyclesCount: Int
  /// How often `backend.crash` kills a writer.
  public var killsCount: Int
  /// Writes of each writer of `backend.reads-under-writes`.
  public var contendedWritesCount: Int
  /// Records of 10 MiB and 64 MiB, and one with half a million keys.
  public var isFull: Bool

  /// A few seconds: after every build.
  public static let quick = Extent(
    recordsCount: 2_000, growthCyclesCount: 80, killsCount: 3, contendedWritesCount: 100, isFull: false)
  /// A minute or some: before a release.
  public static let full = Extent(
    recordsCount: 100_000, growthCyclesCount: 500, killsCount: 25, contendedWritesCount: 500, isFull: true)
}
