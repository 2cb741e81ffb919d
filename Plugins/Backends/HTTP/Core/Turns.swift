import PluginAPI

/// Who may send now: at most `connections_max` at once, the others wait in order, up to `queue_units_max`.
///
/// What another node sent on has as many turns of its own and never waits: nodes that are each other's backends would
/// wait for one another.
struct Turns {
  private let settings: Settings
  private var running = 0
  private var runningForwarded = 0
  private var waiting: [Sending] = []
  /// Where `waiting` begins: what is before has gone.
  private var first = 0

  enum Fate {
    case go
    case wait
    case refuse(Failure)
  }

  init(_ settings: Settings) { self.settings = settings }

  private var waitingCount: Int { waiting.count - first }
  var isIdle: Bool { running == 0 && runningForwarded == 0 && waitingCount == 0 }

  mutating func enter(_ sending: Sending) -> Fate {
    if sending.isForwarded {
      guard runningForwarded < settings.connectionsMax else {
        return .refuse(
          .exhausted(
            "\(settings.connectionsMax) requests of other nodes are on their way to \(settings.remote.text), which is "
              + "connections_max; ask more slowly or raise it", retryAfterMs: 100))
      }
      runningForwarded += 1
      return .go
    }
    if running < settings.connectionsMax {
      running += 1
      return .go
    }
    guard waitingCount < settings.queueUnitsMax else {
      return .refuse(
        .exhausted(
          "\(settings.queueUnitsMax) requests wait for \(settings.remote.text), which is queue_units_max; ask more "
            + "slowly, or raise it or connections_max", retryAfterMs: 100))
    }
    waiting.append(sending)
    return .wait
  }

  /// Gives a turn back; the one that has it now, if any.
  mutating func leave(_ sending: Sending) -> Sending? {
    if sending.isForwarded {
      runningForwarded -= 1
      return nil
    }
    guard waitingCount > 0 else {
      running -= 1
      return nil
    }
    defer {
      first += 1
      if first == waiting.count {
        waiting.removeAll(keepingCapacity: waiting.count < 1_024)
        first = 0
      } else if first >= 1_024, first * 2 > waiting.count {
        waiting.removeFirst(first)
        first = 0
      }
    }
    return waiting[first]
  }
}
