import BackplaneABI

/// One accepted write as the ring keeps it: a copy of its own, because the request's memory goes with its lease.
final class FeedRecord: @unchecked Sendable {
  // @unchecked: `position` and the flags are written before the ring hands the record out; everything else when it is
  // made.
  private(set) var position: UInt64 = 0
  /// BP_FEED_*.
  private(set) var flags: UInt32
  private let verb: UInt32
  private let content: UInt32
  private let timestampMs: UInt64
  private let version: UInt64
  private let uriSize: Int
  private let dataSize: Int
  /// The URI, and the data after it.
  private let bytes: UnsafeMutableRawPointer

  /// What a record takes besides its bytes.
  static let overheadBytes = 128

  /// - Parameter dataSizeMax: larger data is left out, and the record says so.
  init(_ op: bp_op, timestampMs: UInt64, version: UInt64, dataSizeMax: Int) {
    verb = op.verb
    content = op.content
    self.timestampMs = timestampMs
    self.version = version
    uriSize = Int(op.uri.size)
    let size = op.verb == BP_VERB_PUT ? Int(op.data.size) : 0
    dataSize = size <= dataSizeMax ? size : 0
    flags = size <= dataSizeMax ? 0 : BP_FEED_NO_DATA
    bytes = .allocate(byteCount: max(1, uriSize + dataSize), alignment: 1)
    if uriSize > 0 { bytes.copyMemory(from: op.uri.data, byteCount: uriSize) }
    if dataSize > 0 { (bytes + uriSize).copyMemory(from: op.data.data, byteCount: dataSize) }
  }

  deinit { bytes.deallocate() }

  /// The ring's.
  func take(_ position: UInt64) { self.position = position }

  /// Nobody can say in which order this and another write of the record were done: subscribers are told of a gap.
  func becomeGap() { flags = BP_FEED_PLACE | BP_FEED_GAP }

  var isGap: Bool { flags & BP_FEED_GAP != 0 }

  /// What it counts in the ring.
  var sizeBytes: Int { FeedRecord.overheadBytes + uriSize + dataSize }

  /// In normal form; valid as long as the record.
  var uri: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: bytes.assumingMemoryBound(to: UInt8.self), count: uriSize)
  }

  private var data: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: (bytes + uriSize).assumingMemoryBound(to: UInt8.self), count: dataSize)
  }

  /// Calls `body` with the item as subscribers get it: with its data, and without. Valid during the call.
  func withItems(
    epoch: UInt64, _ body: (_ whole: UnsafePointer<bp_chunk>, _ bare: UnsafePointer<bp_chunk>) -> Void
  ) {
    guard flags & BP_FEED_PLACE == 0 else {
      return FeedRecord.withPlace(epoch: epoch, position: position, flags: flags) { body($0, $0) }
    }
    var whole = bp_feed_item(
      chunk: bp_chunk(size: UInt32(MemoryLayout<bp_feed_item>.size), count: 1, bytes: .empty), flags: flags,
      verb: verb, content: content, reserved: 0, epoch: epoch, position: position, ts_ms: timestampMs,
      version: version, uri: bp_view(uri), data: bp_view(data))
    var bare = whole
    bare.data = .empty
    if verb == BP_VERB_PUT { bare.flags |= BP_FEED_NO_DATA }
    withUnsafePointer(to: &whole) { whole in
      withUnsafePointer(to: &bare) { bare in
        body(
          UnsafeRawPointer(whole).assumingMemoryBound(to: bp_chunk.self),
          UnsafeRawPointer(bare).assumingMemoryBound(to: bp_chunk.self))
      }
    }
  }

  /// Calls `body` with an item that says where a subscription stands.
  static func withPlace(
    epoch: UInt64, position: UInt64, flags: UInt32, _ body: (UnsafePointer<bp_chunk>) -> Void
  ) {
    var place = bp_feed_item()
    place.chunk = bp_chunk(size: UInt32(MemoryLayout<bp_feed_item>.size), count: 1, bytes: .empty)
    place.flags = flags | BP_FEED_PLACE
    place.epoch = epoch
    place.position = position
    withUnsafePointer(to: &place) { body(UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self)) }
  }
}
