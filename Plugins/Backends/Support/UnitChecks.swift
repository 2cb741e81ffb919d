import PluginAPI

/// What a store can keep.
public struct RecordLimits: Sendable {
  /// "the SQLite backend".
  public var backend: String
  public var uriSizeBytesMax: Int
  public var dataSizeBytesMax: Int

  public init(backend: String, uriSizeBytesMax: Int, dataSizeBytesMax: Int) {
    self.backend = backend
    self.uriSizeBytesMax = uriSizeBytesMax
    self.dataSizeBytesMax = dataSizeBytesMax
  }

  /// What is wrong with the op whatever the store holds, or nil.
  public func problem(with op: bp_op) -> Failure? {
    if let problem = op.problem { return problem }
    if op.uri.size > uriSizeBytesMax {
      return .invalid("the URI has \(op.uri.size) bytes; \(backend) keeps URIs of up to \(uriSizeBytesMax)")
    }
    if op.data.size > dataSizeBytesMax {
      return .invalid("the data has \(op.data.size) bytes; \(backend) keeps up to \(dataSizeBytesMax)")
    }
    return nil
  }
}

extension OpList {
  /// Why the unit cannot be applied, or nil: an op that the store cannot keep, or the first op whose condition does not
  /// hold. Nothing may have been applied yet; what earlier ops will leave is taken into account. `version` says what the
  /// store holds at a URI (nil: no record) and is asked only where a condition stands.
  public func refusal<E: Error>(
    _ limits: RecordLimits, version: (BorrowedBytes) throws(E) -> UInt64?
  ) throws(E) -> UnitOutcome? {
    var hasConditions = false
    for index in 0..<count {
      let op = self[index]
      if let problem = limits.problem(with: op) { return .failed(problem) }
      if op.condition != BP_IF_ANY { hasConditions = true }
    }
    if !hasConditions { return nil }
    if count == 1 {
      return self[0].holds(for: try version(self[0].uri.bytes)) ? nil : .preconditionFailed(op: 0)
    }
    // What earlier ops of the unit will have left at each URI.
    var latest: [BorrowedKey: UInt64?] = [:]
    for index in 0..<count {
      let op = self[index]
      let key = BorrowedKey(op.uri.bytes)
      if op.condition != BP_IF_ANY {
        let before: UInt64? = if let earlier = latest[key] { earlier } else { try version(op.uri.bytes) }
        guard op.holds(for: before) else { return .preconditionFailed(op: index) }
      }
      latest[key] = .some(op.isDelete ? nil : self.version)
    }
    return nil
  }
}
