/// The bounds of WebSocket connections, checked. Every one that is hit is said and counted.
public struct WebSocketLimits: Sendable, Equatable {
  public var origins = OriginRule.any
  /// Bytes of one message, all its fragments together.
  public var messageSizeBytesMax = 16 << 20
  /// Bytes of all messages that are being received or wait to be executed, over all connections.
  public var messagesSizeBytesMax = 256 << 20
  /// Requests of one connection that the node is working on: then no more is read.
  public var requestsInFlightMax = 64
  public var connectionsMax = 12_000
  /// Subscriptions of one connection.
  public var subscriptionsMax = 100
  /// Events of one subscription that may be on their way to the socket.
  public var subscriptionEventsMax = 16
  /// Bytes that one connection may have waiting for its client to read.
  public var outputSizeBytesMax = 64 << 20
  public var jsonDepthMax = 512
  /// Bytes of the records in one readMulti answer.
  public var readMultiSizeBytesMax = 64 << 20
  public var requestTimeoutMs = 30_000
  public var writeTimeoutMs = 30_000
  public var idleTimeoutMs = 600_000
  public var pingIntervalMs = 30_000
  public var pingTimeoutMs = 20_000
  /// For the client's half of a closing handshake.
  public var closeTimeoutMs = 2_000
  /// Event loops, among which `messagesSizeBytesMax` is divided.
  public var loops = 1

  public init() {}
}

/// Which web pages may connect. Clients that are no browsers send no origin and are let in.
public enum OriginRule: Sendable, Equatable {
  case any
  /// These alone, whatever the case of their letters: `https://app.example.org`.
  case listed([String])

  /// - Parameter origin: of the request; nil: it has none.
  public func allows(_ origin: String?) -> Bool {
    guard case .listed(let origins) = self, let origin else { return true }
    let lowered = origin.lowercased()
    return origins.contains { $0.lowercased() == lowered }
  }
}

/// What one connection's messages may ask for, and how often.
public struct WebSocketAdmission: Sendable {
  public var rights: WebSocketRights
  /// Counts a message: 0, or after how many seconds one may come. Nil: as often as they like.
  public var meter: (@Sendable () -> UInt64)?

  /// The client is another node that hands on what was asked of it (`backplane-forwarded: 1` in the request to upgrade):
  /// peers are left out of whatever it asks.
  public var isForwarded: Bool

  public init(
    rights: WebSocketRights = .all, meter: (@Sendable () -> UInt64)? = nil, isForwarded: Bool = false
  ) {
    self.rights = rights
    self.meter = meter
    self.isForwarded = isForwarded
  }
}

/// What a connection's messages may ask for.
public struct WebSocketRights: OptionSet, Sendable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// read, readMulti, observe.
  public static let read = WebSocketRights(rawValue: 1)
  public static let list = WebSocketRights(rawValue: 2)
  public static let receive = WebSocketRights(rawValue: 4)
  public static let delete = WebSocketRights(rawValue: 8)
  public static let schema = WebSocketRights(rawValue: 16)
  public static let health = WebSocketRights(rawValue: 32)
  public static let all = WebSocketRights(rawValue: 63)
}
