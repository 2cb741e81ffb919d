/// Where `importState` reads from: the bytes that the old instance has written, in chunks whose cuts mean nothing. Use it
/// in that method only, from one task.
public final class StateReader {
  /// The format that the bytes are in, between `stateVersionOldest` and `stateVersion`.
  public let formatVersion: UInt32

  private let source: StateImport
  private var chunk: UnsafeRawBufferPointer

  init(_ source: StateImport, formatVersion: UInt32) {
    self.source = source
    self.formatVersion = formatVersion
    chunk = UnsafeRawBufferPointer(start: nil, count: 0)
  }

  /// The next bytes, never empty; nil at the end of the phase. Valid until the next call of this reader. Waits for the
  /// old instance; throws `CancellationError` when the handover is given up.
  public func next() async throws -> BorrowedBytes? {
    while chunk.isEmpty {
      guard let next = try await source.next() else { return nil }
      chunk = UnsafeRawBufferPointer(next)
    }
    defer { chunk = UnsafeRawBufferPointer(start: nil, count: 0) }
    return chunk.assumingMemoryBound(to: UInt8.self)
  }

  /// Exactly `count` bytes; nil at the end of the phase. Throws a `Failure` when the stream ends in the midst of them.
  /// Bound a count that was read from the stream before you ask for so much.
  public func read(_ count: Int) async throws -> [UInt8]? {
    var bytes: [UInt8] = []
    while bytes.count < count {
      guard let piece = try await next() else {
        if bytes.isEmpty { return nil }
        throw Failure(
          code: BP_DATA_LOSS, "the state is torn: \(count) bytes were to follow and there are \(bytes.count)")
      }
      let taken = min(count - bytes.count, piece.count)
      bytes.append(contentsOf: piece[..<taken])
      chunk = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(piece)[taken...])
    }
    return bytes
  }
}
