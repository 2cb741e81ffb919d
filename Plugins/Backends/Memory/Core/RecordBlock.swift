import PluginAPI

struct RecordHeader {
  var timestampMs: UInt64
  var version: UInt64
  var uriCount: UInt32
  var content: UInt32
  var dataCount: Int
  /// Where the record stands in the order; the node outlives every record that names it. Under the store's order lock.
  unowned(unsafe) var node: TreeNode?
}

/// One record in one allocation: header, URI, data. Never changed once it is in a table (a write makes a new block), so
/// whoever holds a reference reads it without a lock; only `header.node` belongs to the holders of the order lock.
final class RecordBlock: ManagedBuffer<RecordHeader, UInt8>, ByteKeyed {
  static func make(_ op: bp_op, timestampMs: UInt64, version: UInt64) -> RecordBlock {
    make(uri: op.uri.bytes, data: op.data.bytes, content: op.content, timestampMs: timestampMs, version: version)
  }

  @inline(__always)
  static func make(
    uri: BorrowedBytes, data: BorrowedBytes, content: UInt32, timestampMs: UInt64, version: UInt64
  ) -> RecordBlock {
    let block = unsafeDowncast(
      RecordBlock.create(minimumCapacity: uri.count + data.count) { _ in
        RecordHeader(
          timestampMs: timestampMs, version: version, uriCount: UInt32(uri.count), content: content,
          dataCount: data.count, node: nil)
      }, to: RecordBlock.self)
    block.withUnsafeMutablePointerToElements { elements in
      if let base = uri.baseAddress { elements.initialize(from: base, count: uri.count) }
      if let base = data.baseAddress { (elements + uri.count).initialize(from: base, count: data.count) }
    }
    return block
  }

  @inline(__always) var key: BorrowedBytes {
    withUnsafeMutablePointers { header, elements in
      BorrowedBytes(start: elements, count: Int(header.pointee.uriCount))
    }
  }

  @inline(__always) var data: BorrowedBytes {
    withUnsafeMutablePointers { header, elements in
      BorrowedBytes(start: elements + Int(header.pointee.uriCount), count: header.pointee.dataCount)
    }
  }

  /// What it counts for in `size_bytes_max`: the data, the URI twice (record and order) and what the tables, the order
  /// and the allocator need for one record, rounded up.
  var sizeBytes: Int { Self.sizeBytes(uriCount: Int(header.uriCount), dataCount: header.dataCount) }

  static func sizeBytes(uriCount: Int, dataCount: Int) -> Int { dataCount + 2 * uriCount + 256 }
}
