import Synchronization

/// The node as a plugin uses it: async calls on values. The direct forms use `table` themselves.
public struct NodeAccess: Sendable {
  let host: HostHandle

  /// The host's table, or nil where there is no node (a probe answers `BP_UNAVAILABLE` from every function).
  public var table: UnsafePointer<bp_node>? { host.extensionTable("backplane.node/1", as: bp_node.self) }

  /// Reads a record, or nil. `parent`: the token of the call that this read is part of.
  public func read(_ uri: String, parent: bp_token = 0) async throws -> Record? {
    try await submit { table, call, completion in
      uri.withView { table.pointee.read(host.instance, &call, $0, completion) }
    } parent: {
      parent
    } answer: { result -> Result<Record?, Failure> in
      NodeAccess.record(UnsafeRawPointer(result).assumingMemoryBound(to: bp_read_result.self))
    }
  }

  /// What a read came to; nil for a record that is not there.
  static func record(_ read: UnsafePointer<bp_read_result>) -> Result<Record?, Failure> {
    if read.pointee.result.code == BP_NOT_FOUND { return .success(nil) }
    if let failure = read.pointee.result.failure { return .failure(failure) }
    let record = read.pointee.record
    return .success(
      Record(
        data: record.data.array, content: Content(rawValue: record.content) ?? .bytes, timestampMs: record.ts_ms,
        version: record.version))
  }

  /// Receives a message, as if a client had sent it. Returns the durability reached.
  @discardableResult
  public func receive(
    _ uri: String, _ data: [UInt8], _ content: Content = .json, parent: bp_token = 0
  ) async throws -> Durability {
    try await submit { table, call, completion in
      uri.withView { view in
        var request = bp_receive(
          size: .size(of: bp_receive.self), content: content.rawValue, uri: view, data: OwnedBytes.buffer(data))
        return table.pointee.receive(host.instance, &call, &request, completion)
      }
    } parent: {
      parent
    } answer: { result -> Result<Durability, Failure> in
      if let failure = result.pointee.failure { return .failure(failure) }
      let written = UnsafeRawPointer(result).assumingMemoryBound(to: bp_write_result.self).pointee
      return .success(Durability(rawValue: written.durability) ?? .none)
    }
  }

  /// Deletes exactly one record; false when there was none.
  public func delete(_ uri: String, parent: bp_token = 0) async throws -> Bool {
    try await submit { table, call, completion in
      uri.withView { table.pointee.remove(host.instance, &call, $0, completion) }
    } parent: {
      parent
    } answer: { result -> Result<Bool, Failure> in
      if result.pointee.code == BP_NOT_FOUND { return .success(false) }
      if let failure = result.pointee.failure { return .failure(failure) }
      return .success(true)
    }
  }

  /// The normal form of a URI, or nil when it is none.
  public func normalise(_ uri: String) -> String? {
    guard let table else { return nil }
    return withSink { sink in uri.withView { table.pointee.normalise(host.instance, $0, sink) } == BP_OK }
  }

  /// Makes one call; a task that is cancelled gives it up, and gets what the host says then.
  func submit<R: Sendable>(
    _ submit: (UnsafePointer<bp_node>, inout bp_call, bp_completion) -> bp_token, parent: () -> bp_token,
    answer: @escaping (UnsafePointer<bp_result>) -> Result<R, Failure>
  ) async throws -> R {
    guard let table else { throw Failure.unavailable("this host has no node") }
    let pending = PendingAnswer(host)
    return try await withTaskCancellationHandler {
      try await withUnsafeThrowingContinuation { continuation in
        let completion = pending.completion { result in continuation.resume(with: answer(result)) }
        var call = bp_call()
        call.size = .size(of: bp_call.self)
        call.parent = parent()
        pending.isNamed(submit(table, &call, completion))
      }
    } onCancel: {
      pending.cancel()
    }
  }
}

/// A call to the host that runs a closure once, when it ends, and can be given up.
final class PendingAnswer: @unchecked Sendable {
  // @unchecked: `answer` is written before the call is made and read by its completion, which comes once; the rest is
  // under the lock.
  private let host: HostHandle
  private var answer: ((UnsafePointer<bp_result>) -> Void)?
  /// The call's name, 0 until the host has said it.
  private let state = Mutex<(token: bp_token, isCancelled: Bool)>((0, false))

  init(_ host: HostHandle) { self.host = host }

  /// Retains this object until the host completes, which it does exactly once.
  func completion(_ answer: @escaping (UnsafePointer<bp_result>) -> Void) -> bp_completion {
    self.answer = answer
    return bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        let pending = Unmanaged<PendingAnswer>.fromOpaque(context!).takeRetainedValue()
        let answer = pending.answer
        pending.answer = nil
        answer?(result!)
      }, chunk: nil)
  }

  /// The host has said its name; 0 when it has ended already.
  func isNamed(_ token: bp_token) {
    let isCancelled = state.withLock { state in
      state.token = token
      return state.isCancelled
    }
    if isCancelled, token != 0 { host.table.pointee.cancel(host.instance, token) }
  }

  func cancel() {
    let token = state.withLock { state in
      state.isCancelled = true
      return state.token
    }
    if token != 0 { host.table.pointee.cancel(host.instance, token) }
  }
}

/// Bytes whose ownership passes over the boundary.
enum OwnedBytes {
  private final class Box {
    let bytes: UnsafeMutableBufferPointer<UInt8>
    init(_ array: [UInt8]) {
      bytes = .allocate(capacity: array.count)
      _ = bytes.initialize(from: array)
    }
    deinit { bytes.deallocate() }
  }

  static func buffer(_ array: [UInt8]) -> bp_buffer {
    let box = Box(array)
    return bp_buffer(
      data: UnsafePointer(box.bytes.baseAddress), size: UInt64(array.count),
      owner: Unmanaged.passRetained(box).toOpaque(),
      release: { owner in Unmanaged<Box>.fromOpaque(owner!).release() })
  }
}

/// Collects what a host function writes to a sink; nil when the function says no.
func withSink(_ body: (bp_sink) -> Bool) -> String? {
  var bytes: [UInt8] = []
  let accepted = withUnsafeMutablePointer(to: &bytes) { pointer in
    body(
      bp_sink(
        context: pointer,
        write: { context, view in
          context!.assumingMemoryBound(to: [UInt8].self).pointee.append(contentsOf: view.bytes)
        }))
  }
  return accepted ? String(decoding: bytes, as: UTF8.self) : nil
}
