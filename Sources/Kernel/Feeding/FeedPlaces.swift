import BackplaneABI

/// Tells subscriptions that have long had nothing where they stand: the place that they know would leave the ring,
/// and one who comes back with it would be told of a gap, though it has missed nothing.
///
/// In rounds: one when the ring has turned over by a quarter since the last, and at most one a second, however fast it
/// turns. In a round each live subscription whose last item is that old gets a place, if it has a credit: a slice of
/// them at a time, so that ten thousand do not cost their loops more than what they hear otherwise. The feed's thread's
/// own.
struct FeedPlaces {
  /// Where the last round began.
  private var begunAt: UInt64 = 0
  private var begunNs: UInt64 = 0
  /// Not before this the next slice or round.
  private var nextNs: UInt64 = 0
  /// How old the last item of those is that are told in this round, in positions.
  private var age: UInt64 = 1
  /// Those that this round has yet to tell.
  private var left: ArraySlice<FeedSubscription> = []

  private static let roundNsMin: UInt64 = 1_000_000_000
  private static let sliceNsMin: UInt64 = 100_000_000
  private static let sliceSubscriptions = 256

  /// The next few that are to be told. Empty: nobody, for now.
  ///
  /// - Parameters:
  ///   - position: everything up to there has been looked at for live subscriptions.
  ///   - quarter: of the records that the ring holds at most.
  mutating func next(
    at position: UInt64, quarter: UInt64, nowNs: () -> UInt64, all: () -> [FeedSubscription]
  ) -> ArraySlice<FeedSubscription> {
    guard !left.isEmpty || isDue(at: position, quarter: quarter) else { return [] }
    let nowNs = nowNs()
    guard nowNs >= nextNs else { return [] }
    if left.isEmpty {
      (begunAt, begunNs, age) = (position, nowNs, quarter)
      left = all().filter { place(of: $0, walked: position) != nil }[...]
    }
    let slice = left.prefix(Self.sliceSubscriptions)
    left = slice.count < left.count ? left.dropFirst(slice.count) : []
    nextNs = left.isEmpty ? begunNs + Self.roundNsMin : nowNs + Self.sliceNsMin
    return slice
  }

  /// The position that a subscription is to be told; nil: none, since what it knows is young enough, it is behind, or it
  /// has no credit.
  func place(of subscription: FeedSubscription, walked: UInt64, takes: Bool = false) -> UInt64? {
    subscription.state.withLock { state -> UInt64? in
      // One that is behind has something before it; the rest has had, or does not want, all that was looked at.
      let position = max(walked, state.floor)
      guard state.next == 0, state.credits > 0, position >= state.told + age else { return nil }
      return !takes || FeedSubscription.take(&state, at: position) ? position : nil
    }
  }

  /// When there is something to do; nil: not before something is written.
  func dueNs(at position: UInt64, quarter: UInt64) -> UInt64? {
    !left.isEmpty || isDue(at: position, quarter: quarter) ? nextNs : nil
  }

  private func isDue(at position: UInt64, quarter: UInt64) -> Bool { position >= begunAt + quarter }

  /// Nobody is there to be told.
  mutating func skip(to position: UInt64) {
    begunAt = position
    left = []
  }
}
