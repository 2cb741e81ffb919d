/// When the host stops waiting for a call: CLOCK_MONOTONIC, nanoseconds; 0: never. What cannot be done by then is better
/// failed than done late.
extension UnitCall {
  public var deadlineNs: UInt64 { unit.call?.pointee.deadline_ns ?? 0 }
}

extension ReadCall {
  public var deadlineNs: UInt64 { request.call?.pointee.deadline_ns ?? 0 }
}

extension ScanCall {
  public var deadlineNs: UInt64 { request.call?.pointee.deadline_ns ?? 0 }
}
