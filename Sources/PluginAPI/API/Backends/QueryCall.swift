/// The total below a prefix, and one page of records from the middle (backend_query.h).
public struct QueryCall: @unchecked Sendable {
  // @unchecked: the pointers inside are valid until the token is completed, on any thread (backend_query.h).
  let host: HostHandle
  let request: bp_query

  public var token: bp_token { request.token }
  /// Deadline, trace and idempotency key of whoever asks.
  public var header: bp_call? { request.call?.pointee }
  /// Empty, or with a slash at its end.
  public var prefix: BorrowedBytes { request.prefix.bytes }
  /// Records to pass over, in the order of `scan`; may be far beyond the end.
  public var offset: Int { Int(clamping: request.offset) }
  /// At most so many items; 0: only the total.
  public var limit: Int { Int(request.limit) }

  /// Items and their views need to live only until this returns. Fewer than `limit` only at the end.
  public func page(_ items: UnsafeBufferPointer<bp_scan_item>, total: Int) {
    var result = bp_query_result(
      result: .ok(bp_query_result.self), items: items.baseAddress, items_count: UInt32(items.count),
      item_size: UInt32(MemoryLayout<bp_scan_item>.stride), total: UInt64(total))
    host.complete(request.token, with: &result)
  }

  /// This query would cost as much as a scan: the host scans. Say it at once, before any work.
  public func notCheaper() { fail(.unimplemented("this query is not cheaper than a scan")) }

  public func fail(_ failure: Failure) { host.fail(request.token, failure, as: bp_query_result.self) }
}
