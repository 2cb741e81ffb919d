#if SIMULATION

/// What a run is like: drawn from the seed before it begins, so that seeds differ in kind and not only in detail.
struct Style {
  enum Layout { case memory, disk, both }
  let layout: Layout
  let steps: Int
  let clients: Int
  let uris: Int
  /// How many turns others get at each step of the reload thread.
  let turnsMax: Int
  let sleepPercent: Int
  /// Of plugin files: those that have something wrong with them.
  let troublePercent: Int
  /// Of effects: those that the world itself fails.
  let faultPercent: Int
  /// Of calls: those that a plugin never completes of its own accord.
  let stuckPercent: Int
  let errorPercent: Int
  let reloadWeight: Int
  let hasCancels: Bool
  let hasRollbacks: Bool
  let hasBursts: Bool
  let losesStatePercent: Int
  let probationMs: Int
  let parkTimeoutMs: Int
  let requestTimeoutMs: Int
  let handoverTimeoutMs: Int
  let drainSoftMs: Int
  let drainHardMs: Int
  let parkedMax: Int
  let inFlightMax: Int
  /// The node ends in the middle of it all.
  let endsAbruptly: Bool
  let policyIsAny: Bool

  init(steps: Int?) {
    layout = Dice.weighted([(5, .memory), (3, .disk), (3, .both)])
    let ownSteps = 60 + Dice.below(240)
    self.steps = steps ?? ownSteps
    clients = 2 + Dice.below(7)
    uris = 1 + Dice.below(4)
    turnsMax = Dice.pick([2, 6, 20])
    sleepPercent = Dice.pick([0, 5, 30])
    troublePercent = Dice.pick([0, 10, 50])
    faultPercent = Dice.pick([0, 0, 3, 10])
    stuckPercent = Dice.pick([0, 0, 1, 5])
    errorPercent = Dice.pick([0, 0, 2, 20])
    reloadWeight = Dice.pick([1, 4, 12])
    hasCancels = Dice.percent(50)
    hasRollbacks = Dice.percent(50)
    hasBursts = Dice.percent(15)
    losesStatePercent = Dice.pick([0, 0, 10])
    probationMs = Dice.pick([0, 50, 500, 5000])
    parkTimeoutMs = Dice.pick([5, 50, 1000])
    requestTimeoutMs = Dice.pick([100, 1000, 5000])
    handoverTimeoutMs = Dice.pick([20, 200, 2000])
    drainSoftMs = Dice.pick([10, 100])
    drainHardMs = Dice.pick([200, 2000])
    parkedMax = Dice.pick([1, 3, 1000, 1000])
    inFlightMax = Dice.pick([1, 2, 1000, 1000, 1000])
    endsAbruptly = Dice.percent(20)
    policyIsAny = Dice.percent(30)
  }

  /// Reads of one URI never go back in time: with several backends they may, when one of them fails.
  var isLinear: Bool { layout != .both }
  /// An acknowledged write is with every backend.
  var isComplete: Bool { layout != .both || !policyIsAny }
}
#endif
