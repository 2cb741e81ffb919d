/// A backend on the boundary itself: no Task, no copies, batches. Each call carries its own completion, which must be
/// called exactly once: before the method returns when its mode is `.direct`, at any time and from any thread otherwise.
public protocol DirectBackend: Plugin {
  static var modes: BackendModes { get }

  /// Applies units; see `bp_backend.apply` for the order they take effect in. The batch is valid during the call; a
  /// unit's ops until the unit is completed.
  func apply(_ units: UnitBatch)

  /// Reads one record.
  func read(_ call: ReadCall)

  /// Reads the records that are asked for together, two or more; by default one after the other with `read(_:)`. For a
  /// backend that can have them in one round trip. The batch is valid during the call, a read until it is completed.
  func read(_ batch: ReadBatch)

  /// One page of a scan.
  func scan(_ call: ScanCall)

  /// The total below a prefix, and one page from the middle (backend_query.h). Called when `modes.query` says how.
  func query(_ call: QueryCall)

  /// The caller of `token` has given up. Best effort; complete it all the same.
  func cancel(_ token: bp_token)
}

extension DirectBackend {
  public func read(_ batch: ReadBatch) {
    for index in 0..<batch.count { read(batch[index]) }
  }

  public func query(_ call: QueryCall) { call.notCheaper() }

  public func cancel(_ token: bp_token) {}
}

/// How a data method behaves (core.h, "Modes").
public enum CallMode: UInt32, Sendable {
  /// Returns at once, completes later from a thread of the plugin's own.
  case async = 0
  /// Completes before it returns and never blocks.
  case direct = 1
  /// May block: the host calls it on threads it keeps for the instance.
  case blocking = 2
}

public struct BackendModes: Sendable {
  public var apply: CallMode
  public var read: CallMode
  public var scan: CallMode
  /// Nil: the backend has no `query`, and lists are scans.
  public var query: CallMode?
  /// The best that apply acknowledges.
  public var durability: Durability
  /// A unit of several ops is all or nothing.
  public var isAtomic: Bool
  /// Keeps versions and honours `Condition.version`.
  public var keepsVersions: Bool
  /// The records are another node's (`BP_BACKEND_REMOTE`).
  public var isRemote: Bool

  public init(
    apply: CallMode, read: CallMode, scan: CallMode, query: CallMode? = nil, durability: Durability,
    isAtomic: Bool = true, keepsVersions: Bool = true, isRemote: Bool = false
  ) {
    self.apply = apply
    self.read = read
    self.scan = scan
    self.query = query
    self.durability = durability
    self.isAtomic = isAtomic
    self.keepsVersions = keepsVersions
    self.isRemote = isRemote
  }
}

/// The units of one submission.
public struct UnitBatch {
  @usableFromInline let host: HostHandle
  @usableFromInline let first: UnsafePointer<bp_unit>
  public let count: Int

  @usableFromInline init(host: HostHandle, first: UnsafePointer<bp_unit>, count: Int) {
    self.host = host
    self.first = first
    self.count = count
  }

  @inlinable public subscript(index: Int) -> UnitCall {
    // Arrays of sized structs are walked by the size of their first element (core.h).
    let unit = UnsafeRawPointer(first).advanced(by: index * Int(first.pointee.size))
      .assumingMemoryBound(to: bp_unit.self)
    return UnitCall(host: host, unit: unit.pointee)
  }
}

/// One unit to apply.
public struct UnitCall: @unchecked Sendable {
  // @unchecked: the pointers inside are valid until the token is completed, on any thread (backend.h).
  @usableFromInline let host: HostHandle
  @usableFromInline let unit: bp_unit

  @usableFromInline init(host: HostHandle, unit: bp_unit) {
    self.host = host
    self.unit = unit
  }

  @inlinable public var token: bp_token { unit.token }
  /// Deadline, trace and idempotency key of whoever asks.
  @inlinable public var header: bp_call? { unit.call?.pointee }
  @inlinable public var timestampMs: UInt64 { unit.ts_ms }
  @inlinable public var version: UInt64 { unit.version }
  /// When the caller stops waiting, on CLOCK_MONOTONIC; `UInt64.max`: never.
  public var deadlineNs: UInt64 { deadline(of: unit.call) }
  @inlinable public var count: Int { Int(unit.ops_count) }

  /// One op; its views are valid until the unit is completed.
  @inlinable public subscript(index: Int) -> bp_op {
    UnsafeRawPointer(unit.ops!).advanced(by: index * Int(unit.ops!.pointee.size)).load(as: bp_op.self)
  }

  @inlinable public func applied(_ durability: Durability, absentCount: Int = 0) {
    var result = bp_write_result(
      result: .ok(bp_write_result.self), durability: durability.rawValue, absent_count: UInt32(absentCount),
      failed_op: 0, reserved: 0, ts_ms: unit.ts_ms)
    host.complete(unit.token, with: &result)
  }

  /// The condition of `op` does not hold; nothing was applied.
  @inlinable public func preconditionFailed(op: Int) {
    var result = bp_write_result(
      result: .code(BP_FAILED_PRECONDITION, bp_write_result.self), durability: 0, absent_count: 0,
      failed_op: UInt32(op), reserved: 0, ts_ms: unit.ts_ms)
    host.complete(unit.token, with: &result)
  }

  public func fail(_ failure: Failure) { host.fail(unit.token, failure, as: bp_write_result.self) }
}

/// The reads of one submission.
public struct ReadBatch {
  @usableFromInline let host: HostHandle
  @usableFromInline let first: UnsafePointer<bp_read>
  public let count: Int

  @usableFromInline init(host: HostHandle, first: UnsafePointer<bp_read>, count: Int) {
    self.host = host
    self.first = first
    self.count = count
  }

  @inlinable public subscript(index: Int) -> ReadCall {
    // Arrays of sized structs are walked by the size of their first element (core.h).
    let read = UnsafeRawPointer(first).advanced(by: index * Int(first.pointee.size))
      .assumingMemoryBound(to: bp_read.self)
    return ReadCall(host: host, request: read.pointee)
  }
}

/// One record to read.
public struct ReadCall: @unchecked Sendable {
  // @unchecked: the pointers inside are valid until the token is completed, on any thread (backend.h).
  @usableFromInline let host: HostHandle
  @usableFromInline let request: bp_read

  @usableFromInline init(host: HostHandle, request: bp_read) {
    self.host = host
    self.request = request
  }

  @inlinable public var token: bp_token { request.token }
  /// Deadline, trace and idempotency key of whoever asks.
  @inlinable public var header: bp_call? { request.call?.pointee }
  /// In normal form.
  @inlinable public var uri: BorrowedBytes { request.uri.bytes }
  /// Only existence, time and version are asked for.
  @inlinable public var isWithoutData: Bool { request.flags & BP_READ_WITHOUT_DATA != 0 }
  /// When the caller stops waiting, on CLOCK_MONOTONIC; `UInt64.max`: never.
  public var deadlineNs: UInt64 { deadline(of: request.call) }

  /// `data` needs to live only until this returns. Hold no lock: it may run host code.
  @inlinable public func found(timestampMs: UInt64, version: UInt64, content: Content, data: BorrowedBytes) {
    var result = bp_read_result(
      result: .ok(bp_read_result.self),
      record: bp_record(
        size: .size(of: bp_record.self), content: content.rawValue, ts_ms: timestampMs, version: version,
        data: bp_view(data)))
    host.complete(request.token, with: &result)
  }

  @inlinable public func notFound() {
    var result = bp_read_result(
      result: .code(BP_NOT_FOUND, bp_read_result.self),
      record: bp_record(size: .size(of: bp_record.self), content: 0, ts_ms: 0, version: 0, data: .empty))
    host.complete(request.token, with: &result)
  }

  public func fail(_ failure: Failure) { host.fail(request.token, failure, as: bp_read_result.self) }
}

/// One page to scan.
public struct ScanCall: @unchecked Sendable {
  // @unchecked: the pointers inside are valid until the token is completed, on any thread (backend.h).
  let host: HostHandle
  let request: bp_scan

  public var token: bp_token { request.token }
  /// Deadline, trace and idempotency key of whoever asks.
  public var header: bp_call? { request.call?.pointee }
  public var prefix: BorrowedBytes { request.prefix.bytes }
  /// Empty: from the beginning.
  public var cursor: BorrowedBytes { request.cursor.bytes }
  /// At most so many items.
  public var limit: Int { Int(request.credits) }
  /// When the caller stops waiting, on CLOCK_MONOTONIC; `UInt64.max`: never.
  public var deadlineNs: UInt64 { deadline(of: request.call) }

  /// Items and their views need to live only until this returns. An empty cursor says that this was the last page.
  public func page(_ items: UnsafeBufferPointer<bp_scan_item>, cursor: BorrowedBytes) {
    var result = bp_scan_result(
      result: .ok(bp_scan_result.self), items: items.baseAddress, items_count: UInt32(items.count),
      item_size: UInt32(MemoryLayout<bp_scan_item>.stride), cursor: bp_view(cursor))
    host.complete(request.token, with: &result)
  }

  public func fail(_ failure: Failure) { host.fail(request.token, failure, as: bp_scan_result.self) }
}

private func deadline(of call: UnsafePointer<bp_call>?) -> UInt64 {
  guard let deadlineNs = call?.pointee.deadline_ns, deadlineNs != 0 else { return .max }
  return deadlineNs
}
