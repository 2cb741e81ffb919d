import BackplaneABI
import Synchronization

/// A place in the feed with credits. It holds no items: what it has not had is in the ring, or lost.
///
/// It is either **live** - the walk along the ring hands it each record that it wants - or **behind**: from `next` on
/// nobody has looked for it yet. It falls behind when a record comes that it has no credit for, and catches up when it
/// has.
final class FeedSubscription: FeedIndexed, @unchecked Sendable {
  // @unchecked: `slot` is the index's, under its lock; `token` is written before anybody else knows the subscription;
  // the caller's function and context may be called from any thread (core.h), one at a time (`State.isInChunk`).

  struct State {
    var credits: UInt64
    /// The first position that nobody has looked at for it; 0: it is live.
    var next: UInt64
    /// What is not newer than this it has had, or does not want.
    var floor: UInt64
    /// The position of the last item that it was handed.
    var told: UInt64 = 0
    /// The place that it is to be told before anything else, with these flags.
    var place: UInt32?
    /// It is among those that are to catch up.
    var isQueued = false
    var isInChunk = false
    /// How it ends: at once, or when the chunk that is being handed over has returned.
    var end: (code: bp_code, message: StaticString)?
  }

  let owner: bp_instance
  let prefix: [UInt8]
  let isWithoutData: Bool
  let epoch: UInt64
  var token: bp_token = 0
  var slot = 0
  let state: Mutex<State>
  private let completion: bp_completion
  /// Has been told of the end.
  private let ended: @Sendable () -> Void

  init(
    owner: bp_instance, prefix: [UInt8], flags: UInt32, epoch: UInt64, next: UInt64, place: UInt32, credits: UInt32,
    _ completion: bp_completion, ended: @escaping @Sendable () -> Void
  ) {
    self.owner = owner
    self.prefix = prefix
    isWithoutData = flags & BP_SUBSCRIBE_WITHOUT_DATA != 0
    self.epoch = epoch
    self.completion = completion
    self.ended = ended
    state = Mutex(State(credits: UInt64(credits), next: next, floor: 0, place: place))
  }

  /// True when it is to catch up now.
  func grant(_ credits: UInt32) -> Bool? {
    state.withLock { state in
      guard state.end == nil else { return nil }
      state.credits += UInt64(credits)
      return FeedSubscription.queue(&state)
    }
  }

  /// True when it is to catch up, and was not among those that are.
  static func queue(_ state: inout State) -> Bool {
    guard state.next != 0, state.credits > 0, !state.isQueued, state.end == nil else { return false }
    state.isQueued = true
    return true
  }

  /// Takes a credit and the right to hand over one item, of this position; `hand` gives the right back.
  static func take(_ state: inout State, at position: UInt64) -> Bool {
    guard state.credits > 0, state.end == nil, !state.isInChunk else { return false }
    state.credits -= 1
    state.told = position
    state.isInChunk = true
    return true
  }

  /// Hands one item over that `take` was for. True when it was the last one: `end` was called meanwhile.
  func hand(_ chunk: UnsafePointer<bp_chunk>) -> Bool {
    ThreadMark.own.during(.chunk, owner) { completion.chunk(completion.context, chunk) }
    return state.withLock { state in
      state.isInChunk = false
      return state.end != nil
    }
  }

  /// True when the caller is to `complete` it: it had not ended, and nothing is being handed over.
  func end(_ code: bp_code, _ message: StaticString) -> Bool {
    state.withLock { state in
      guard state.end == nil else { return false }
      state.end = (code, message)
      return !state.isInChunk
    }
  }

  /// Once, after `end` or `hand` said so.
  func complete() {
    let (code, message) = state.withLock { $0.end! }
    Answers.with(code, message, retryable: code != BP_CANCELLED, as: bp_result.self) {
      completion.answer(owner, $0)
    }
    ended()
  }
}
