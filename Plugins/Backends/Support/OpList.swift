import PluginAPI

/// A unit as a store sees it: from the boundary, or made by a self-test.
public protocol OpList {
  var count: Int { get }
  subscript(index: Int) -> bp_op { get }
  var timestampMs: UInt64 { get }
  var version: UInt64 { get }
}

extension UnitCall: OpList {}

/// How a store answers a unit.
public enum UnitOutcome: Sendable, Equatable {
  case applied(absentCount: Int)
  /// Nothing was changed; `op` is the index of the op whose condition does not hold.
  case preconditionFailed(op: Int)
  /// Nothing was changed.
  case failed(Failure)
}

extension UnitCall {
  /// Completes the unit. `durability` is what the store has reached for it.
  @inlinable public func complete(_ outcome: UnitOutcome, _ durability: Durability) {
    switch outcome {
    case .applied(let absentCount): applied(durability, absentCount: absentCount)
    case .preconditionFailed(let op): preconditionFailed(op: op)
    case .failed(let failure): fail(failure)
    }
  }
}

extension bp_op {
  @inlinable public var isDelete: Bool { verb == BP_VERB_DELETE }

  /// Whether the condition holds for a record of `version`, or for none.
  @inlinable public func holds(for version: UInt64?) -> Bool {
    switch condition {
    case BP_IF_ABSENT: version == nil
    case BP_IF_PRESENT: version != nil
    case BP_IF_VERSION: version == if_version
    default: true
    }
  }

  /// What is wrong with the op whatever the store holds, or nil. A newer kernel may know verbs that this plugin does not.
  @inlinable public var problem: Failure? {
    if verb > BP_VERB_DELETE { return .unimplemented("verb \(verb) is not known to this backend; update the plugin") }
    if condition > BP_IF_VERSION {
      return .unimplemented("condition \(condition) is not known to this backend; update the plugin")
    }
    if uri.size == 0 { return .invalid("an op without a URI") }
    return nil
  }
}

/// Borrowed bytes as a dictionary's key. Not longer than the bytes live.
public struct BorrowedKey: Hashable {
  public let bytes: BorrowedBytes

  @inlinable public init(_ bytes: BorrowedBytes) { self.bytes = bytes }

  public static func == (left: BorrowedKey, right: BorrowedKey) -> Bool { left.bytes.elementsEqual(right.bytes) }

  public func hash(into hasher: inout Hasher) { hasher.combine(bytes: UnsafeRawBufferPointer(bytes)) }
}
