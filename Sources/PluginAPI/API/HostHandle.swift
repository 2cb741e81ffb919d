/// An instance's way back to the host: the host's function table and the instance's own name. Two words; copy it freely.
public struct HostHandle: @unchecked Sendable {
  // @unchecked: the table is one constant, static for the life of the process (core.h), and its functions may be called
  // from any thread.
  public let table: UnsafePointer<bp_host>
  public let instance: bp_instance

  public init(table: UnsafePointer<bp_host>, instance: bp_instance) {
    self.table = table
    self.instance = instance
  }

  /// A host table by name, or nil when this host does not have it. The pointer is valid for the life of the process.
  public func extensionTable<T>(_ id: StaticString, as type: T.Type) -> UnsafePointer<T>? {
    let view = bp_view(data: id.utf8Start, size: UInt64(id.utf8CodeUnitCount))
    return table.pointee.extension(instance, view)?.assumingMemoryBound(to: type)
  }

  /// Completes `token` with a kind's result struct. The struct and its views need to live only until this returns.
  @inlinable @inline(__always)
  public func complete<T>(_ token: bp_token, with result: inout T) {
    withUnsafePointer(to: &result) { pointer in
      table.pointee.complete(
        instance, token, UnsafeRawPointer(pointer).assumingMemoryBound(to: bp_result.self))
    }
  }

  /// Completes `token` with a failure, as a result of the given size (the kind's struct, zeroed beyond the header).
  public func fail<T>(_ token: bp_token, _ failure: Failure, as type: T.Type) {
    // A failure must be as long as the kind's result struct: the reader may look at its fields before the code.
    withUnsafeTemporaryAllocation(byteCount: MemoryLayout<T>.size, alignment: MemoryLayout<T>.alignment) { raw in
      raw.initializeMemory(as: UInt8.self, repeating: 0)
      let pointer = raw.baseAddress!.assumingMemoryBound(to: bp_result.self)
      failure.withResult(size: .size(of: T.self)) { result in
        pointer.pointee = result
        table.pointee.complete(instance, token, pointer)
      }
    }
  }
}

extension bp_result {
  /// Success, as the head of a result struct of `T`'s size.
  @inlinable public static func ok<T>(_ type: T.Type) -> bp_result {
    bp_result(
      size: .size(of: T.self), code: BP_OK, flags: 0, retry_after_ms: 0, message: .empty, detail: .empty)
  }

  /// A bare code, as the head of a result struct of `T`'s size.
  @inlinable public static func code<T>(_ code: bp_code, _ type: T.Type) -> bp_result {
    bp_result(size: .size(of: T.self), code: code, flags: 0, retry_after_ms: 0, message: .empty, detail: .empty)
  }

  /// The failure this result stands for; nil for success.
  public var failure: Failure? {
    guard code != BP_OK else { return nil }
    return Failure(
      code: code, message.text, isRetryable: flags & BP_RETRYABLE != 0, retryAfterMs: retry_after_ms)
  }
}
