import CMongoC

/// Bytes that are compared as bytes: what Swift's String counts as equal ("é", written in two ways) a server does not.
public struct Text: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
  public var bytes: [UInt8]

  public init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }
  public init(_ text: String) { bytes = Array(text.utf8) }
  public init(stringLiteral text: String) { self.init(text) }

  public static func < (left: Text, right: Text) -> Bool { left.bytes.lexicographicallyPrecedes(right.bytes) }
  public var description: String { String(decoding: bytes, as: UTF8.self) }
}

/// A BSON value, as far as the server keeps any.
public indirect enum Value: Sendable, Equatable, ExpressibleByStringLiteral {
  case double(Double)
  case text(Text)
  case document(Document)
  case array([Value])
  case binary([UInt8])
  case objectID([UInt8])
  case bool(Bool)
  case dateMs(Int64)
  case null
  case int32(Int32)
  case int64(Int64)
  case timestamp(UInt32, UInt32)
  /// A type that the server stores for nobody.
  case unsupported(UInt32)

  public init(stringLiteral text: String) { self = .text(Text(text)) }

  public var number: Double? {
    switch self {
    case .double(let value): value
    case .int32(let value): Double(value)
    case .int64(let value): Double(value)
    default: nil
    }
  }
  public var integer: Int? {
    switch self {
    case .double(let value): Int(exactly: value)
    case .int32(let value): Int(value)
    case .int64(let value): Int(value)
    default: nil
    }
  }
  public var document: Document? { if case .document(let value) = self { value } else { nil } }
  public var array: [Value]? { if case .array(let value) = self { value } else { nil } }
  public var text: Text? { if case .text(let value) = self { value } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { number.map { $0 != 0 } } }

  /// As `$eq` compares: numbers by value, whatever their type.
  func equals(_ other: Value) -> Bool {
    switch (self, other) {
    case (.int64(let left), .int64(let right)): left == right
    case (.document(let left), .document(let right)):
      left.fields.count == right.fields.count
        && zip(left.fields, right.fields).allSatisfy { $0.name == $1.name && $0.value.equals($1.value) }
    case (.array(let left), .array(let right)):
      left.count == right.count && zip(left, right).allSatisfy { $0.equals($1) }
    default: if let left = number, let right = other.number { left == right } else { self == other }
    }
  }
}

/// Fields in their order.
public struct Document: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  public struct Field: Sendable, Equatable {
    public var name: Text
    public var value: Value
  }

  public var fields: [Field] = []

  public init() {}
  public init(dictionaryLiteral elements: (Text, Value)...) {
    fields = elements.map { Field(name: $0.0, value: $0.1) }
  }

  public subscript(_ name: Text) -> Value? {
    get { fields.first { $0.name == name }?.value }
    set {
      if let index = fields.firstIndex(where: { $0.name == name }) {
        if let newValue { fields[index].value = newValue } else { fields.remove(at: index) }
      } else if let newValue {
        fields.append(Field(name: name, value: newValue))
      }
    }
  }

  /// The value at "a.b".
  public subscript(path path: String) -> Value? {
    var value: Value? = .document(self)
    for part in path.split(separator: ".") { value = value?.document?[Text(String(part))] }
    return value
  }

  mutating func remove(path: String) {
    let parts = path.split(separator: ".", maxSplits: 1).map(String.init)
    let name = Text(parts[0])
    if parts.count == 1 {
      self[name] = nil
    } else if var inner = self[name]?.document {
      inner.remove(path: parts[1])
      self[name] = .document(inner)
    }
  }
}

// MARK: BSON, by libbson

extension Document {
  /// nil when the bytes are no BSON document.
  public init?(bson bytes: some Collection<UInt8>) {
    let copy = Array(bytes)
    guard let raw = bson_new_from_data(copy, copy.count) else { return nil }
    defer { bson_destroy(raw) }
    var offset = 0
    guard bson_validate(raw, BSON_VALIDATE_NONE, &offset) else { return nil }
    let iterator = Self.iterator()
    defer { UnsafeMutableRawPointer(iterator).deallocate() }
    guard bson_iter_init(iterator, raw) else { return nil }
    self.init(iterator)
  }

  private static func iterator() -> OpaquePointer {
    OpaquePointer(UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128))
  }

  private init(_ iterator: OpaquePointer) {
    while bson_iter_next(iterator) {
      let name = UnsafeRawBufferPointer(start: bson_iter_key(iterator), count: Int(bson_iter_key_len(iterator)))
      fields.append(Field(name: Text(name), value: Self.value(iterator)))
    }
  }

  private static func value(_ iterator: OpaquePointer) -> Value {
    switch bson_iter_type(iterator) {
    case BSON_TYPE_DOUBLE: return .double(bson_iter_double(iterator))
    case BSON_TYPE_UTF8:
      var count: UInt32 = 0
      let start = bson_iter_utf8(iterator, &count)
      return .text(Text(UnsafeRawBufferPointer(start: start, count: Int(count))))
    case BSON_TYPE_DOCUMENT, BSON_TYPE_ARRAY:
      let child = Self.iterator()
      defer { UnsafeMutableRawPointer(child).deallocate() }
      guard bson_iter_recurse(iterator, child) else { return .unsupported(0) }
      let inner = Document(child)
      return bson_iter_type(iterator) == BSON_TYPE_ARRAY ? .array(inner.fields.map(\.value)) : .document(inner)
    case BSON_TYPE_BINARY:
      var subtype = BSON_SUBTYPE_BINARY
      var count: UInt32 = 0
      var start: UnsafePointer<UInt8>?
      bson_iter_binary(iterator, &subtype, &count, &start)
      return .binary(Array(UnsafeBufferPointer(start: start, count: Int(count))))
    case BSON_TYPE_OID:
      return .objectID(withUnsafeBytes(of: bson_iter_oid(iterator).pointee) { Array($0) })
    case BSON_TYPE_BOOL: return .bool(bson_iter_bool(iterator))
    case BSON_TYPE_DATE_TIME: return .dateMs(bson_iter_date_time(iterator))
    case BSON_TYPE_NULL: return .null
    case BSON_TYPE_INT32: return .int32(bson_iter_int32(iterator))
    case BSON_TYPE_INT64: return .int64(bson_iter_int64(iterator))
    case BSON_TYPE_TIMESTAMP:
      var seconds: UInt32 = 0
      var increment: UInt32 = 0
      bson_iter_timestamp(iterator, &seconds, &increment)
      return .timestamp(seconds, increment)
    case let type: return .unsupported(type.rawValue)
    }
  }

  public var bson: [UInt8] {
    let raw = bson_new()
    defer { bson_destroy(raw) }
    for field in fields { Self.append(field.value, field.name, to: raw!) }
    let count = UnsafeRawPointer(raw!).load(fromByteOffset: 4, as: UInt32.self)
    return Array(UnsafeBufferPointer(start: bson_get_data(raw), count: Int(count)))
  }

  private static func append(_ value: Value, _ name: Text, to raw: OpaquePointer) {
    name.bytes.withUnsafeBytes { bytes in
      // Never nil: for the empty name that would be one to measure.
      let key = (bytes.baseAddress ?? UnsafeRawPointer(StaticString("").utf8Start)).assumingMemoryBound(to: CChar.self)
      append(value, key, Int32(bytes.count), to: raw)
    }
  }

  private static func append(_ value: Value, _ key: UnsafePointer<CChar>, _ count: Int32, to raw: OpaquePointer) {
    switch value {
    case .double(let number): bson_append_double(raw, key, count, number)
    case .text(let text):
      text.bytes.withUnsafeBytes { bytes in
        let start =
          (bytes.baseAddress ?? UnsafeRawPointer(StaticString("").utf8Start)).assumingMemoryBound(to: CChar.self)
        _ = bson_append_utf8(raw, key, count, start, Int32(bytes.count))
      }
    case .document(let document):
      let inner = document.bson
      let child = bson_new_from_data(inner, inner.count)
      bson_append_document(raw, key, count, child)
      bson_destroy(child)
    case .array(let values):
      var list = Document()
      for (index, value) in values.enumerated() { list.fields.append(Field(name: Text("\(index)"), value: value)) }
      let inner = list.bson
      let child = bson_new_from_data(inner, inner.count)
      bson_append_array(raw, key, count, child)
      bson_destroy(child)
    case .binary(let bytes): bson_append_binary(raw, key, count, BSON_SUBTYPE_BINARY, bytes, UInt32(bytes.count))
    case .objectID(let bytes):
      var id = bson_oid_t()
      withUnsafeMutableBytes(of: &id) { $0.copyBytes(from: bytes.prefix(12)) }
      bson_append_oid(raw, key, count, &id)
    case .bool(let flag): bson_append_bool(raw, key, count, flag)
    case .dateMs(let time): bson_append_date_time(raw, key, count, time)
    case .null: bson_append_null(raw, key, count)
    case .int32(let number): bson_append_int32(raw, key, count, number)
    case .int64(let number): bson_append_int64(raw, key, count, number)
    case .timestamp(let seconds, let increment): bson_append_timestamp(raw, key, count, seconds, increment)
    case .unsupported: preconditionFailure("a value of a type that the server does not keep")
    }
  }
}
