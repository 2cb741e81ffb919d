/// What makes a backend slot a peer: another node that gets accepted messages, or is asked for what is missing here. It is
/// no backend of the node for anything else.
public struct PeerSettings: Sendable, Equatable, Codable {
  public enum Direction: String, Sendable, CaseIterable, Codable {
    /// It gets every message that is accepted here.
    case push
    /// It is asked for records that are missing here.
    case pull
    case bidirectional
  }

  /// What waits for it.
  public struct Push: Sendable, Equatable, Codable {
    /// In files, from before a message is acknowledged until the peer has it; else in memory.
    public var isDurable = false
    /// Units that wait; beyond that the oldest is dropped.
    public var queueUnitsMax = 100_000
    /// What they may take, in bytes.
    public var queueSizeBytesMax = 64 << 20

    public init() {}
  }

  public struct Pull: Sendable, Equatable, Codable {
    /// How long one read may wait for it, in milliseconds.
    public var timeoutMs = 2_000

    public init() {}
  }

  public var direction: Direction
  public var push = Push()
  public var pull = Pull()

  public init(_ direction: Direction) { self.direction = direction }

  var pushes: Bool { direction != .pull }
  var pulls: Bool { direction != .push }
}
