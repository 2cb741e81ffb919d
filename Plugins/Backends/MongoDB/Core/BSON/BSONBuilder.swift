import CMongoC
import PluginAPI

/// The name of a field, borrowed: a literal, or bytes that live as long as the call that it is given to.
struct BSONKey: ExpressibleByStringLiteral {
  let start: UnsafePointer<CChar>
  let count: Int32

  init(stringLiteral text: StaticString) {
    start = UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
    count = Int32(text.utf8CodeUnitCount)
  }

  /// Must hold no zero byte: BSON ends names with one.
  init(_ bytes: UnsafeRawBufferPointer) {
    start = (bytes.baseAddress ?? UnsafeRawPointer(StaticString("").utf8Start)).assumingMemoryBound(to: CChar.self)
    count = Int32(bytes.count)
  }
}

/// A BSON document that is being put together by libbson. One thread.
final class BSONBuilder {
  private let root: OpaquePointer
  /// The documents that are open, innermost last: memory of ours that libbson fills and that stays where it is.
  private var children: [OpaquePointer] = []
  private var top: OpaquePointer
  /// False when something did not fit: a document may have 2 GiB.
  private(set) var isWhole = true

  init() {
    root = bson_new()
    top = root
  }

  deinit {
    // An open child keeps its parent's buffer locked, but owns nothing of its own.
    for child in children { UnsafeMutableRawPointer(child).deallocate() }
    bson_destroy(root)
  }

  /// Calls `body` with the document, which is there during the call and no longer: nothing but this object keeps it.
  func withDocument<R, E: Error>(_ body: (OpaquePointer) throws(E) -> R) throws(E) -> R {
    precondition(children.isEmpty, "a nested document is still open")
    defer { withExtendedLifetime(self) {} }
    return try body(root)
  }

  /// Likewise with its bytes.
  func withBytes<R>(_ body: (BorrowedBytes) -> R) -> R {
    withDocument { body(BorrowedBytes(start: bson_get_data($0), count: count)) }
  }

  /// Bytes of the document.
  var count: Int {
    // bson_t begins with its flags and its length.
    Int(UnsafeRawPointer(root).load(fromByteOffset: 4, as: UInt32.self))
  }

  func append(_ key: BSONKey, text: BorrowedBytes) {
    let start = UnsafeRawPointer(text.baseAddress ?? StaticString("").utf8Start).assumingMemoryBound(to: CChar.self)
    isWhole = text.count < Int32.max && bson_append_utf8(top, key.start, key.count, start, Int32(text.count)) && isWhole
  }

  func append(_ key: BSONKey, text: UnsafeRawBufferPointer) { append(key, text: text.bindMemory(to: UInt8.self)) }

  func append(_ key: BSONKey, text: String) { text.withView { append(key, text: $0.bytes) } }

  func append(_ key: BSONKey, binary: BorrowedBytes) {
    isWhole =
      binary.count < Int32.max
      && bson_append_binary(
        top, key.start, key.count, BSON_SUBTYPE_BINARY, binary.baseAddress ?? StaticString("").utf8Start,
        UInt32(binary.count))
      && isWhole
  }

  func append(_ key: BSONKey, int32: Int32) { isWhole = bson_append_int32(top, key.start, key.count, int32) && isWhole }
  func append(_ key: BSONKey, int64: Int64) { isWhole = bson_append_int64(top, key.start, key.count, int64) && isWhole }
  func append(_ key: BSONKey, double: Double) {
    isWhole = bson_append_double(top, key.start, key.count, double) && isWhole
  }
  func append(_ key: BSONKey, bool: Bool) { isWhole = bson_append_bool(top, key.start, key.count, bool) && isWhole }
  func append(_ key: BSONKey, dateMs: Int64) {
    isWhole = bson_append_date_time(top, key.start, key.count, dateMs) && isWhole
  }
  func appendNull(_ key: BSONKey) { isWhole = bson_append_null(top, key.start, key.count) && isWhole }

  /// A copy of a finished document.
  func append(_ key: BSONKey, document: BSONBuilder) {
    isWhole = document.withDocument { bson_append_document(top, key.start, key.count, $0) } && isWhole
  }

  /// The value that `reader` stands at, under another name.
  func append(_ key: BSONKey, valueAt reader: BSONReader) {
    isWhole = bson_append_iter(top, key.start, key.count, reader.iterator) && isWhole
  }

  /// All fields of a document.
  func append(fieldsOf document: BSONBuilder) {
    isWhole = document.withDocument { bson_concat(top, $0) } && isWhole
  }

  func nest(_ key: BSONKey, _ body: (BSONBuilder) -> Void) {
    open(key, isArray: false)
    body(self)
    close(isArray: false)
  }

  func append(_ key: BSONKey, array body: (BSONBuilder) -> Void) {
    open(key, isArray: true)
    body(self)
    close(isArray: true)
  }

  private func open(_ key: BSONKey, isArray: Bool) {
    // bson_t has 128 bytes and is aligned to as many.
    let child = OpaquePointer(UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128))
    let isOpen =
      isArray
      ? bson_append_array_begin(top, key.start, key.count, child)
      : bson_append_document_begin(top, key.start, key.count, child)
    // What goes into a child that could not be opened goes nowhere.
    if !isOpen {
      isWhole = false
      bson_init(child)
    }
    children.append(child)
    top = child
  }

  private func close(isArray: Bool) {
    let child = children.removeLast()
    top = children.last ?? root
    let isClosed =
      isWhole && (isArray ? bson_append_array_end(top, child) : bson_append_document_end(top, child))
    if !isClosed { isWhole = false }
    UnsafeMutableRawPointer(child).deallocate()
  }
}
