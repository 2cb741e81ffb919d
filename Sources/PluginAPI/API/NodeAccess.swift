/// The node as a plugin uses it: async calls on values. The direct forms use `table` themselves.
public struct NodeAccess: Sendable {
  let host: HostHandle

  /// The host's table, or nil where there is no node (a probe answers `BP_UNAVAILABLE` from every function).
  public var table: UnsafePointer<bp_node>? { host.extensionTable("backplane.node/1", as: bp_node.self) }

  /// Reads a record, or nil. `parent`: the token of the call that this read is part of.
  public func read(_ uri: String, parent: bp_token = 0) async throws -> Record? {
    try await submit { table, call, completion in
      _ = uri.withView { table.pointee.read(host.instance, &call, $0, completion) }
    } parent: {
      parent
    } answer: { result -> Result<Record?, Failure> in
      if result.pointee.code == BP_NOT_FOUND { return .success(nil) }
      if let failure = result.pointee.failure { return .failure(failure) }
      let record = UnsafeRawPointer(result).assumingMemoryBound(to: bp_read_result.self).pointee.record
      return .success(
        Record(
          data: record.data.array, content: Content(rawValue: record.content) ?? .bytes, timestampMs: record.ts_ms,
          version: record.version))
    }
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
        _ = table.pointee.receive(host.instance, &call, &request, completion)
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
      _ = uri.withView { table.pointee.remove(host.instance, &call, $0, completion) }
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

  private func submit<R: Sendable>(
    _ submit: (UnsafePointer<bp_node>, inout bp_call, bp_completion) -> Void, parent: () -> bp_token,
    answer: @escaping (UnsafePointer<bp_result>) -> Result<R, Failure>
  ) async throws -> R {
    guard let table else { throw Failure.unavailable("this host has no node") }
    return try await withUnsafeThrowingContinuation { continuation in
      let pending = PendingAnswer { result in continuation.resume(with: answer(result)) }
      var call = bp_call()
      call.size = .size(of: bp_call.self)
      call.parent = parent()
      submit(table, &call, pending.completion)
    }
  }
}

/// A completion that runs a closure once.
final class PendingAnswer {
  private let answer: (UnsafePointer<bp_result>) -> Void

  init(_ answer: @escaping (UnsafePointer<bp_result>) -> Void) { self.answer = answer }

  /// Retains this object until the host completes, which it does exactly once.
  var completion: bp_completion {
    bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        Unmanaged<PendingAnswer>.fromOpaque(context!).takeRetainedValue().answer(result!)
      }, chunk: nil)
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
