/// Where `exportState` writes: one stream of bytes. It is cut into chunks here, and a chunk leaves when the successor has
/// room for it. Use it in that method only, from one task.
public final class StateWriter {
  /// Bytes of a chunk: large enough that its cost vanishes, small enough to stay in the cache on its way.
  public static let chunkSizeBytes = 256 << 10

  private let export: StateExport
  private var buffer: UnsafeMutableRawBufferPointer
  private var used = 0

  init(_ export: StateExport) {
    self.export = export
    buffer = .allocate(byteCount: Self.chunkSizeBytes, alignment: 16)
  }

  deinit { buffer.deallocate() }

  /// Writes bytes. Waits while the successor has no room; throws `CancellationError` when the handover is given up.
  public func write(_ bytes: BorrowedBytes) async throws {
    var rest = UnsafeRawBufferPointer(bytes)
    while !rest.isEmpty {
      if used >= Self.chunkSizeBytes { try await drain() }
      let count = min(rest.count, Self.chunkSizeBytes - used)
      buffer.baseAddress!.advanced(by: used).copyMemory(from: rest.baseAddress!, byteCount: count)
      used += count
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  /// Writes bytes; as above.
  public func write(_ bytes: [UInt8]) async throws {
    // In place only when it surely does not wait: the array's memory may not be borrowed across an await.
    var start = 0
    while start < bytes.count {
      if used >= Self.chunkSizeBytes { try await drain() }
      let count = min(bytes.count - start, Self.chunkSizeBytes - used)
      bytes[start..<(start + count)].withUnsafeBytes {
        buffer.baseAddress!.advanced(by: used).copyMemory(from: $0.baseAddress!, byteCount: count)
      }
      used += count
      start += count
    }
  }

  /// Adds `count` bytes, which `fill` writes in place, without waiting: for small pieces in a loop. Call `drain()` when
  /// `isFull` says so; until then they are kept.
  @inline(__always)
  public func append(_ count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void) {
    if buffer.count - used < count { grow(by: count) }
    fill(UnsafeMutableRawBufferPointer(rebasing: buffer[used..<(used + count)]))
    used += count
  }

  /// A chunk is complete.
  public var isFull: Bool { used >= Self.chunkSizeBytes }

  /// Sends what is complete on its way. Waits and throws as `write` does.
  public func drain() async throws {
    try await send(while: Self.chunkSizeBytes)
  }

  /// Sends the rest.
  func finish() async throws {
    try await send(while: 1)
  }

  private func send(while minimum: Int) async throws {
    var sent = 0
    while used - sent >= minimum {
      let count = min(used - sent, Self.chunkSizeBytes)
      try await export.emit(UnsafeRawBufferPointer(rebasing: buffer[sent..<(sent + count)]))
      sent += count
    }
    guard sent > 0 else { return }
    // What is left is less than a chunk.
    buffer.baseAddress!.copyMemory(from: buffer.baseAddress!.advanced(by: sent), byteCount: used - sent)
    used -= sent
  }

  private func grow(by count: Int) {
    let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: max(buffer.count * 2, used + count), alignment: 16)
    larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[..<used]))
    buffer.deallocate()
    buffer = larger
  }
}
