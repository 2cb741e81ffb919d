import BackplaneABI

/// Tells subscriptions that have long had nothing where they stand: the place that they know would leave the ring,
/// and one who comes back with it would be told of a gap, though it has missed nothing.
///
/// In rounds: one when the ring has turned over by a quarter since the last, and at most one a second, however fast it
/// turns. In a round each live subscription whose last item is that old gets a place, if it has a credit. The walk
/// goes on between the slices of a round. The feed's thread's own.
struct FeedPlaces {
  /// Where and when the last round began.
  private var begunAt: UInt64 = 0
  private var begunNs: UInt64 = 0
  /// How old the last item of those is that are told in this round, in positions.
  private var age: UInt64 = 1
  /// Those that this round has yet to look at.
  private var left: ArraySlice<FeedSubscription> = []

  private static let intervalNsMin: UInt64 = 1_000_000_000
  private static let sliceSubscriptions = 256

  /// The next few, and how old the last item of those is that are to be told. Empty: nobody, for now.
  ///
  /// - Parameters:
  ///   - position: everything up to there has been looked at for live subscriptions.
  ///   - quarter: of the records that the ring holds at most.
  mutating func next(
    at position: UInt64, quarter: UInt64, nowNs: () -> UInt64, all: () -> [FeedSubscription]
  ) -> (subscriptions: ArraySlice<FeedSubscription>, age: UInt64) {
    if left.isEmpty, isDue(at: position, quarter: quarter) {
      let nowNs = nowNs()
      guard nowNs >= begunNs + Self.intervalNsMin || begunNs == 0 else { return ([], age) }
      (begunAt, begunNs, age) = (position, nowNs, quarter)
      left = all()[...]
    }
    let slice = left.prefix(Self.sliceSubscriptions)
    left = left.dropFirst(Self.sliceSubscriptions)
    if left.isEmpty { left = [] }
    return (slice, age)
  }

  /// When there is something to do; nil: not before something is written.
  func dueNs(at position: UInt64, quarter: UInt64) -> UInt64? {
    isDue(at: position, quarter: quarter) ? begunNs + Self.intervalNsMin : nil
  }

  private func isDue(at position: UInt64, quarter: UInt64) -> Bool { position >= begunAt + quarter }

  /// Nobody is there to be told.
  mutating func skip(to position: UInt64) {
    begunAt = position
    left = []
  }
}
