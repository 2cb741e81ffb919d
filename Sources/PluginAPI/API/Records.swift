/// What the bytes of a record are.
public enum Content: UInt32, Sendable {
  /// One JSON text, valid UTF-8.
  case json = 0
  case bytes = 1
}

/// How safe an acknowledged write is.
public enum Durability: UInt32, Sendable, Comparable {
  case none = 0
  /// Survives nothing.
  case memory = 1
  /// Survives a crash of the process, not of the machine.
  case os = 2
  /// Survives a crash of the machine.
  case disk = 3
  /// On disk on several machines.
  case quorum = 4

  public static func < (left: Durability, right: Durability) -> Bool { left.rawValue < right.rawValue }
}

/// A record as stored.
public struct Record: Sendable, Equatable {
  public var data: [UInt8]
  public var content: Content
  /// When the node accepted it, milliseconds since 1970; given by the kernel.
  public var timestampMs: UInt64
  /// Unique and rising for all writes of a node; given by the kernel. 0: not kept.
  public var version: UInt64

  public init(data: [UInt8], content: Content, timestampMs: UInt64, version: UInt64) {
    self.data = data
    self.content = content
    self.timestampMs = timestampMs
    self.version = version
  }
}

/// What must hold for an op, checked inside its unit.
public enum Condition: Sendable, Equatable {
  case any
  case absent
  case present
  case version(UInt64)

  init(_ op: bp_op) {
    switch op.condition {
    case BP_IF_ABSENT: self = .absent
    case BP_IF_PRESENT: self = .present
    case BP_IF_VERSION: self = .version(op.if_version)
    default: self = .any
    }
  }

  var rawValue: (condition: UInt32, version: UInt64) {
    switch self {
    case .any: (BP_IF_ANY, 0)
    case .absent: (BP_IF_ABSENT, 0)
    case .present: (BP_IF_PRESENT, 0)
    case .version(let version): (BP_IF_VERSION, version)
    }
  }

  /// Whether it holds for a record of `version`, or for none.
  public func holds(for version: UInt64?) -> Bool {
    switch self {
    case .any: true
    case .absent: version == nil
    case .present: version != nil
    case .version(let wanted): version == wanted
    }
  }
}

/// One change of one record.
public struct Op: Sendable, Equatable {
  public enum Verb: Sendable, Equatable {
    case put(data: [UInt8], content: Content)
    case delete
  }

  /// In normal form.
  public var uri: String
  public var verb: Verb
  public var condition: Condition
  /// In a verdict: the schema of this op's own program is to judge it.
  public var isToJudge: Bool
  /// In a verdict: what the client is told when the condition does not hold; empty: the node's own words.
  public var refusal: String

  public init(
    _ verb: Verb, uri: String, if condition: Condition = .any, isToJudge: Bool = false, otherwise refusal: String = ""
  ) {
    self.refusal = refusal
    self.verb = verb
    self.uri = uri
    self.condition = condition
    self.isToJudge = isToJudge
  }

  public static func put(
    _ uri: String, _ data: [UInt8], _ content: Content = .json, if condition: Condition = .any,
    otherwise refusal: String = ""
  ) -> Op {
    Op(.put(data: data, content: content), uri: uri, if: condition, otherwise: refusal)
  }

  public static func delete(_ uri: String, if condition: Condition = .any) -> Op {
    Op(.delete, uri: uri, if: condition)
  }

  init(_ op: bp_op) {
    let verb: Verb =
      op.verb == BP_VERB_DELETE
      ? .delete : .put(data: op.data.array, content: Content(rawValue: op.content) ?? .bytes)
    self.init(
      verb, uri: op.uri.text, if: Condition(op), isToJudge: op.flags & BP_OP_TO_JUDGE != 0,
      otherwise: op.refusal.text)
  }
}

/// 1..n ops that happen together or not at all.
public struct WriteUnit: Sendable {
  public var ops: [Op]
  /// What every record put by this unit is stamped with, milliseconds since 1970.
  public var timestampMs: UInt64
  /// Likewise.
  public var version: UInt64

  public init(ops: [Op], timestampMs: UInt64, version: UInt64) {
    self.ops = ops
    self.timestampMs = timestampMs
    self.version = version
  }
}

/// The deadline of a life-cycle call.
public struct Deadline: Sendable {
  /// CLOCK_MONOTONIC, nanoseconds.
  public var monotonicNs: UInt64

  public init(monotonicNs: UInt64) { self.monotonicNs = monotonicNs }
}
