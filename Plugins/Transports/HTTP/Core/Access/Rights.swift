/// What a client may do: each is a group of routes.
struct Rights: OptionSet, Sendable {
  let rawValue: UInt8

  /// read and read-multi.
  static let read = Rights(rawValue: 1)
  static let list = Rights(rawValue: 2)
  static let receive = Rights(rawValue: 4)
  static let delete = Rights(rawValue: 8)
  static let schema = Rights(rawValue: 16)
  /// Health, liveness, readiness.
  static let health = Rights(rawValue: 32)
  static let metrics = Rights(rawValue: 64)
  static let all = Rights(rawValue: 127)

  /// What messages over WebSocket can ask for.
  static let messages: Rights = [.read, .list, .receive, .delete, .schema]

  static let named: [(name: String, right: Rights)] = [
    ("read", .read), ("list", .list), ("receive", .receive), ("delete", .delete), ("schema", .schema),
    ("health", .health), ("metrics", .metrics), ("all", .all),
  ]

  /// What `route` needs; empty: nothing. A route that is not told apart here needs everything.
  static func needed(for route: Route) -> Rights {
    switch route {
    case .read, .readMulti: .read
    case .list: .list
    case .receive: .receive
    case .delete: .delete
    case .schema: .schema
    case .health, .live, .ready: .health
    case .metrics: .metrics
    case .webSocket: .messages
    case .options, .unrouted, .refused: []
    default: .all
    }
  }
}
