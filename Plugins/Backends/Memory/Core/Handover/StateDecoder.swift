import PluginAPI

/// Takes a stream apart into frames, whatever its chunks are, and checks each one. It allocates no more than it has been
/// given, so a foreign stream that speaks of huge sizes costs nothing.
struct StateDecoder: ~Copyable {
  /// One frame, borrowed.
  struct Found {
    var frame: StateFrame
    /// The sequence numbers of its own levels, eight bytes each.
    var own: UnsafeRawBufferPointer
    var uri: BorrowedBytes
    var data: BorrowedBytes
  }

  // More would not be a record but a misread number.
  private static let uriBytesMax: UInt32 = 1 << 24
  private static let dataBytesMax: UInt64 = 1 << 40

  /// The beginning of a frame whose end has not come.
  private var carry: [UInt8] = []
  private(set) var framesCount: UInt64 = 0

  /// Whether the stream ended between two frames.
  var isBetweenFrames: Bool { carry.isEmpty }

  mutating func feed(
    _ bytes: BorrowedBytes, _ body: (borrowing Found) throws(Failure) -> Void
  ) throws(Failure) {
    var rest = UnsafeRawBufferPointer(bytes)
    while !carry.isEmpty {
      let wanted = try carry.withUnsafeBytes { bytes in Result { () throws(Failure) in try size(bytes) } }.get()
      if carry.count == wanted {
        // Taken out, so that the frame stays where it is while `body` runs.
        let whole = carry
        carry.removeAll(keepingCapacity: true)
        try whole.withUnsafeBytes { bytes in
          Result { () throws(Failure) in try body(check(bytes)) }
        }.get()
        break
      }
      if rest.isEmpty { return }
      let taken = min(rest.count, wanted - carry.count)
      carry.append(contentsOf: rest[..<taken])
      rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
    }
    while !rest.isEmpty {
      let wanted = try size(rest)
      guard rest.count >= wanted else {
        carry.append(contentsOf: rest)
        return
      }
      try body(check(UnsafeRawBufferPointer(rebasing: rest[..<wanted])))
      rest = UnsafeRawBufferPointer(rebasing: rest[wanted...])
    }
  }

  /// The size of the frame that begins here; of its header while that is not whole.
  @inline(__always)
  private func size(_ raw: UnsafeRawBufferPointer) throws(Failure) -> Int {
    guard raw.count >= StateFrame.headerSizeBytes else { return StateFrame.headerSizeBytes }
    guard let frame = StateFrame(reading: raw), frame.uriCount <= Self.uriBytesMax,
      frame.dataCount <= Self.dataBytesMax
    else { throw torn() }
    return frame.headCount + Int(frame.dataCount)
  }

  @inline(__always)
  private mutating func check(_ raw: UnsafeRawBufferPointer) throws(Failure) -> Found {
    guard let frame = StateFrame(reading: raw) else { throw torn() }
    let headCount = frame.headCount
    let data = UnsafeRawBufferPointer(rebasing: raw[headCount...])
    let expected = StateFrame.checksum(
      framesCount, head: UnsafeRawBufferPointer(rebasing: raw[8..<headCount]), data: data)
    guard UInt64(littleEndian: raw.loadUnaligned(as: UInt64.self)) == expected else { throw torn() }
    framesCount += 1
    let uriStart = headCount - Int(frame.uriCount)
    return Found(
      frame: frame, own: UnsafeRawBufferPointer(rebasing: raw[StateFrame.headerSizeBytes..<uriStart]),
      uri: UnsafeRawBufferPointer(rebasing: raw[uriStart..<headCount]).assumingMemoryBound(to: UInt8.self),
      data: data.assumingMemoryBound(to: UInt8.self))
  }

  private func torn() -> Failure {
    Failure(
      code: BP_DATA_LOSS,
      "the state that was handed over is torn or not the memory backend's: frame \(framesCount) is not one of its frames"
    )
  }
}
