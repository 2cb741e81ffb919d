import CMongoC
import PluginAPI

/// Walks the fields of a document with libbson. One thread; valid as long as the document.
final class BSONReader {
  /// A bson_iter_t, which Swift cannot hold by itself: it is aligned to 128 bytes.
  private let memory: UnsafeMutableRawPointer
  var iterator: OpaquePointer { OpaquePointer(memory) }

  private init() {
    memory = .allocate(byteCount: 128, alignment: 128)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: 128)
  }

  deinit { memory.deallocate() }

  /// Before the first field; nil when the bytes are no document.
  convenience init?(_ document: OpaquePointer) {
    self.init()
    guard bson_iter_init(iterator, document) else { return nil }
  }

  /// At the field `path` ("a.b"); nil when there is none.
  convenience init?(_ document: OpaquePointer, at path: String) {
    self.init()
    guard bson_iter_init(iterator, document) else { return nil }
    let found = BSONReader()
    guard bson_iter_find_descendant(iterator, path, found.iterator) else { return nil }
    // A bson_iter_t holds no pointer to itself.
    memory.copyMemory(from: found.memory, byteCount: 128)
  }

  /// To the next field; false when there is none.
  func next() -> Bool { bson_iter_next(iterator) }

  var key: BorrowedBytes {
    let start = UnsafeRawPointer(bson_iter_key(iterator)!).assumingMemoryBound(to: UInt8.self)
    return BorrowedBytes(start: start, count: Int(bson_iter_key_len(iterator)))
  }

  func isAt(_ name: StaticString) -> Bool { bp_view(key).equals(name) }

  var type: bson_type_t { bson_iter_type(iterator) }

  /// Before the first field of the document or array that this stands at; nil when it is neither.
  var fields: BSONReader? {
    guard type == BSON_TYPE_DOCUMENT || type == BSON_TYPE_ARRAY else { return nil }
    let child = BSONReader()
    return bson_iter_recurse(iterator, child.iterator) ? child : nil
  }

  /// The bytes of a text, which need not be UTF-8; nil for another type.
  var text: BorrowedBytes? {
    guard type == BSON_TYPE_UTF8 else { return nil }
    var count: UInt32 = 0
    let start = bson_iter_utf8(iterator, &count)
    return BorrowedBytes(
      start: start.map { UnsafeRawPointer($0).assumingMemoryBound(to: UInt8.self) }, count: Int(count))
  }

  var binary: BorrowedBytes? {
    guard type == BSON_TYPE_BINARY else { return nil }
    var subtype = BSON_SUBTYPE_BINARY
    var count: UInt32 = 0
    var start: UnsafePointer<UInt8>?
    bson_iter_binary(iterator, &subtype, &count, &start)
    return BorrowedBytes(start: start, count: Int(count))
  }

  /// A whole number, of any of the number types; nil for another type or a fraction.
  var integer: Int64? {
    switch type {
    case BSON_TYPE_INT32: Int64(bson_iter_int32(iterator))
    case BSON_TYPE_INT64: bson_iter_int64(iterator)
    case BSON_TYPE_DOUBLE: Int64(exactly: bson_iter_double(iterator))
    default: nil
    }
  }

  var double: Double { bson_iter_double(iterator) }
  var bool: Bool { bson_iter_bool(iterator) }

  /// Milliseconds since 1970; nil for another type.
  var dateMs: Int64? { type == BSON_TYPE_DATE_TIME ? bson_iter_date_time(iterator) : nil }

  /// Whether the value is true, or a number other than 0, as the server counts `ok`.
  var isTruthy: Bool { bson_iter_as_bool(iterator) }
}
