import JSONText

/// What a request asks for. The raw value is the index of its counter.
enum RequestKind: Int, CaseIterable {
  case receive, read, readMulti, list, delete, health, getSchema, observe, unobserve, unknown

  /// The label of its metric.
  var label: String {
    switch self {
    case .readMulti: "read_multi"
    case .getSchema: "get_schema"
    default: "\(self)"
    }
  }

  /// What it needs; empty: nothing.
  var right: WebSocketRights {
    switch self {
    case .read, .readMulti, .observe: .read
    case .receive: .receive
    case .list: .list
    case .delete: .delete
    case .health: .health
    case .getSchema: .schema
    case .unobserve, .unknown: []
    }
  }

  /// - Parameter type: nil or no string: unknown.
  init(_ type: JSONSlice?) {
    guard let type else {
      self = .unknown
      return
    }
    if type.isText("read") {
      self = .read
    } else if type.isText("receive") {
      self = .receive
    } else if type.isText("readMulti") {
      self = .readMulti
    } else if type.isText("list") {
      self = .list
    } else if type.isText("delete") {
      self = .delete
    } else if type.isText("health") {
      self = .health
    } else if type.isText("getSchema") {
      self = .getSchema
    } else if type.isText("observe") {
      self = .observe
    } else if type.isText("unobserve") {
      self = .unobserve
    } else {
      self = .unknown
    }
  }
}
