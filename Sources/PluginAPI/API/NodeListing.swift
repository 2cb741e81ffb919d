import Synchronization

/// How a list is sorted.
public enum RecordSort: UInt32, Sendable {
  /// The backend's stable order.
  case none = 0
  /// ICU root collation of the URI.
  case name = 1
  case timestamp = 2
}

/// One page of a list.
public struct RecordList: Sendable, Equatable {
  public var uris: [String]
  /// Of all pages.
  public var total: UInt64

  public init(uris: [String], total: UInt64) {
    self.uris = uris
    self.total = total
  }
}

extension NodeAccess {
  /// Lists the records strictly below `uri`, by path segment.
  ///
  /// - Parameters:
  ///   - pattern: ICU regular expression, unanchored, on the whole URI; empty: all.
  ///   - page: from 1.
  ///   - limit: of one page; the node's own bound is `limits.list_page_records_max`.
  ///   - parent: the token of the call that this is part of.
  public func list(
    _ uri: String, pattern: String = "", sort: RecordSort = .none, descending: Bool = false, page: UInt64 = 1,
    limit: UInt64 = 1000, parent: bp_token = 0
  ) async throws -> RecordList {
    try await submit { table, call, completion in
      uri.withView { uri in
        pattern.withView { pattern in
          var request = bp_list(
            size: .size(of: bp_list.self), flags: descending ? BP_LIST_DESCENDING : 0, uri: uri, pattern: pattern,
            sort: sort.rawValue, reserved: 0, page: page, limit: limit)
          return table.pointee.list(host.instance, &call, &request, completion)
        }
      }
    } parent: {
      parent
    } answer: { result -> Result<RecordList, Failure> in
      if let failure = result.pointee.failure { return .failure(failure) }
      let listed = UnsafeRawPointer(result).assumingMemoryBound(to: bp_list_result.self).pointee
      let uris = UnsafeBufferPointer(start: listed.uris, count: Int(listed.uris_count)).map(\.text)
      return .success(RecordList(uris: uris, total: listed.total))
    }
  }

  /// Reads up to `limits.batch_messages_max` records at once: one answer for each URI, in their order; nil for a record
  /// that is not there.
  ///
  /// - Parameter parent: the token of the call that this is part of.
  public func readMulti(_ uris: [String], parent: bp_token = 0) async throws -> [Result<Record?, Failure>] {
    guard let table else { throw Failure.unavailable("this host has no node") }
    return try await withCheckedThrowingContinuation { continuation in
      let pending = PendingReads(uris.count, continuation)
      var call = bp_call()
      call.size = .size(of: bp_call.self)
      call.parent = parent
      NodeAccess.withViews(uris) { views in
        _ = table.pointee.read_multi(
          host.instance, &call, views.baseAddress, UInt32(views.count), pending.completion)
      }
    }
  }

  /// The programs that the node's schemas list, in order.
  public func programs() -> [String] {
    guard let table else { return [] }
    var programs: [String] = []
    withUnsafeMutablePointer(to: &programs) { pointer in
      table.pointee.programs(host.instance, pointer) { context, key in
        context!.assumingMemoryBound(to: [String].self).pointee.append(key.text)
      }
    }
    return programs
  }

  /// Views of all texts, valid during `body`.
  private static func withViews(_ texts: [String], _ body: (UnsafeBufferPointer<bp_view>) -> Void) {
    let bytes = texts.flatMap(\.utf8)
    bytes.withUnsafeBufferPointer { bytes in
      var offset = 0
      let views = texts.map { text in
        let count = text.utf8.count
        defer { offset += count }
        return bp_view(data: bytes.baseAddress.map { $0 + offset }, size: UInt64(count))
      }
      views.withUnsafeBufferPointer(body)
    }
  }
}

/// The answers of a read of many, until the host completes it, which it does exactly once.
private final class PendingReads: Sendable {
  private let answers: Mutex<[Result<Record?, Failure>]>
  private let continuation: CheckedContinuation<[Result<Record?, Failure>], any Error>

  init(_ count: Int, _ continuation: CheckedContinuation<[Result<Record?, Failure>], any Error>) {
    // The node answers every one before it completes.
    answers = Mutex(Array(repeating: .failure(.internal("the node gave no answer for this URI")), count: count))
    self.continuation = continuation
  }

  var completion: bp_completion {
    bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        Unmanaged<PendingReads>.fromOpaque(context!).takeRetainedValue().end(result!.pointee.failure)
      },
      chunk: { context, chunk in
        let item = UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_read_item.self).pointee
        Unmanaged<PendingReads>.fromOpaque(context!).takeUnretainedValue().take(Int(item.index), item.read!)
      })
  }

  private func take(_ index: Int, _ read: UnsafePointer<bp_read_result>) {
    let answer = NodeAccess.record(read)
    answers.withLock { if $0.indices.contains(index) { $0[index] = answer } }
  }

  private func end(_ failure: Failure?) {
    if let failure {
      continuation.resume(throwing: failure)
    } else {
      continuation.resume(returning: answers.withLock { $0 })
    }
  }
}
