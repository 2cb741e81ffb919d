/// What waits for a peer: `push` of its slot in `backplane status`.
public struct PushReport: Codable, Sendable, Equatable {
  public var isDurable: Bool
  /// Messages that the peer does not have yet, and their size in bytes; those on their way included.
  public var units: Int
  public var bytes: Int
  /// On their way.
  public var inFlight: Int
  /// When the oldest of them was accepted, ms since 1970.
  public var oldestMs: UInt64?
  public var pushed: UInt64
  /// Dropped because the queue was full.
  public var dropped: UInt64
  /// Refused by the peer for good.
  public var refused: UInt64
  public var retried: UInt64
  /// Dropped since nothing was left to be sent.
  public var droppedSinceLevel: Int
  /// Why nothing goes out now.
  public var reason: String?
  /// What is wrong with its files.
  public var problem: String?

  enum CodingKeys: String, CodingKey {
    case units, bytes, pushed, dropped, refused, retried, reason, problem
    case isDurable = "durable"
    case inFlight = "in_flight"
    case oldestMs = "oldest_ms"
    case droppedSinceLevel = "dropped_since_level"
  }

  /// What the operator should know; empty when all is well.
  var sentence: String {
    var parts: [String] = []
    if let reason { parts.append("\(units) messages wait for it: \(reason)") }
    if droppedSinceLevel > 0 {
      parts.append(
        "its queue was full (push.queue_units_max, push.queue_size_bytes_max) and \(droppedSinceLevel) messages were dropped"
      )
    }
    if let problem { parts.append("its queue cannot be kept in files: \(problem)") }
    return parts.joined(separator: "; ")
  }
}

/// What was asked of a peer: `pull` of its slot in `backplane status`.
public struct PullReport: Codable, Sendable, Equatable {
  public var hits: UInt64
  public var misses: UInt64
  public var timeouts: UInt64
  public var failures: UInt64
  /// Reads for which it was not asked, because it was known to be away.
  public var skipped: UInt64
  /// It is not asked for now.
  public var isPaused: Bool

  enum CodingKeys: String, CodingKey {
    case hits, misses, timeouts, failures, skipped
    case isPaused = "paused"
  }
}

/// What was counted of a peer.
struct PeerCounts: Codable, Sendable {
  var push: [UInt64]
  var pull: [UInt64]
}

/// What a slot is as a peer, in `backplane status`.
public struct PeerReport: Codable, Sendable, Equatable {
  public var direction: String
  public var push: PushReport?
  public var pull: PullReport?

  /// What the operator should know; empty when all is well.
  var sentence: String {
    var parts: [String] = []
    if let push, !push.sentence.isEmpty { parts.append(push.sentence) }
    if pull?.isPaused == true { parts.append("it did not answer reads, and is asked again from time to time only") }
    return parts.joined(separator: "; ")
  }
}
