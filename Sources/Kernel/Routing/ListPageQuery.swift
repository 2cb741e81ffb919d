import BackplaneABI
import ListQuery

/// A list that a backend may answer by itself (backend_query.h): a page in its own order, and the total.
struct ListPageQuery {
  /// Records of one query, at most.
  private static let recordsMax = 65_536

  let offset: UInt64
  let limit: UInt32

  enum Outcome {
    /// The views are the result's.
    case page([bp_view], total: UInt64)
    /// The backend would rather be scanned.
    case refused
    case failed(CallFailure)
  }

  /// Nil when every record has to be looked at.
  init?(_ query: ListQuery) {
    guard (query.pattern ?? "").isEmpty, query.sortBy == .none, !query.isDescending, query.limit <= Self.recordsMax
    else { return nil }
    let (offset, isOverflow) = (query.page - 1).multipliedReportingOverflow(by: query.limit)
    guard !isOverflow else { return nil }
    self.offset = UInt64(offset)
    limit = UInt32(query.limit)
  }

  func submit(
    to backend: Instance, _ token: bp_token, prefix: [UInt8], _ call: OwnedCall, generation: UInt64, startNs: UInt64
  ) {
    prefix.withUnsafeBufferPointer { prefix in
      var request = bp_query(
        size: UInt32(MemoryLayout<bp_query>.size), flags: 0, token: token, call: call.header, prefix: bp_view(prefix),
        offset: offset, limit: limit, reserved: 0)
      ThreadMark.own.during(
        .query, backend.handle, generation: generation, startNs: startNs, header: call.header
      ) { backend.queries!.pointee.query(backend.pointer, &request) }
    }
  }

  func outcome(_ result: UnsafePointer<bp_result>) -> Outcome {
    if result.pointee.code == BP_UNIMPLEMENTED { return .refused }
    guard result.pointee.code == BP_OK else { return .failed(CallFailure(result)) }
    let page = UnsafeRawPointer(result).assumingMemoryBound(to: bp_query_result.self).pointee
    let stride = Int(page.item_size)
    guard page.items_count == 0 || stride >= MemoryLayout<bp_scan_item>.size else {
      return .failed(CallFailure(code: BP_INTERNAL, "the backend's scan items are smaller than this kernel's"))
    }
    guard page.items_count <= limit, page.total >= UInt64(page.items_count) else {
      return .failed(CallFailure(code: BP_INTERNAL, "the backend's query answers more than there is or was asked for"))
    }
    let uris = (0..<Int(page.items_count)).map { index in
      UnsafeRawPointer(page.items!).advanced(by: index * stride).load(as: bp_scan_item.self).uri
    }
    return .page(uris, total: page.total)
  }
}
