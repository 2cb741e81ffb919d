import CMongoC
import JSONText
import PluginAPI

/// A BSON value that another program has stored as JSON text, in short form, as JavaScript would print what it reads.
enum BSONToJSON {
  /// Appends the value that `reader` stands at.
  static func append(_ reader: BSONReader, to output: inout [UInt8]) {
    switch reader.type {
    case BSON_TYPE_UTF8: append(text: reader.text!, to: &output)
    case BSON_TYPE_INT32, BSON_TYPE_INT64: output.append(contentsOf: String(reader.integer ?? 0).utf8)
    case BSON_TYPE_DOUBLE:
      // NaN and the infinities are null, as in JavaScript.
      if !JSONNumber.append(reader.double, to: &output) { output.append(contentsOf: "null".utf8) }
    case BSON_TYPE_BOOL: output.append(contentsOf: (reader.bool ? "true" : "false").utf8)
    case BSON_TYPE_NULL, BSON_TYPE_UNDEFINED: output.append(contentsOf: "null".utf8)
    case BSON_TYPE_DOCUMENT: appendObject(reader, to: &output)
    case BSON_TYPE_ARRAY: appendArray(reader, to: &output)
    default: appendExtended(reader, to: &output)
    }
  }

  private static func appendObject(_ reader: BSONReader, to output: inout [UInt8]) {
    output.append(UInt8(ascii: "{"))
    if let fields = reader.fields {
      var isFirst = true
      while fields.next() {
        if !isFirst { output.append(UInt8(ascii: ",")) }
        isFirst = false
        append(text: fields.key, to: &output)
        output.append(UInt8(ascii: ":"))
        append(fields, to: &output)
      }
    }
    output.append(UInt8(ascii: "}"))
  }

  private static func appendArray(_ reader: BSONReader, to output: inout [UInt8]) {
    output.append(UInt8(ascii: "["))
    if let fields = reader.fields {
      var isFirst = true
      while fields.next() {
        if !isFirst { output.append(UInt8(ascii: ",")) }
        isFirst = false
        append(fields, to: &output)
      }
    }
    output.append(UInt8(ascii: "]"))
  }

  private static func append(text: BorrowedBytes, to output: inout [UInt8]) {
    // Programs have stored texts that are not UTF-8; JSON must be.
    let isUTF8 = bson_utf8_validate(
      UnsafeRawPointer(text.baseAddress ?? StaticString("").utf8Start).assumingMemoryBound(to: CChar.self), text.count,
      true)
    if isUTF8 {
      JSONWriter.appendString(utf8: UnsafeRawBufferPointer(text), to: &output)
    } else {
      JSONWriter.appendString(String(decoding: text, as: UTF8.self), to: &output)
    }
  }

  /// Types that JSON does not have (dates, object ids, decimals, ...): relaxed Extended JSON, in libbson's words.
  private static func appendExtended(_ reader: BSONReader, to output: inout [UInt8]) {
    let builder = BSONBuilder()
    builder.append("v", valueAt: reader)
    var count = 0
    guard let text = builder.withDocument({ bson_as_relaxed_extended_json($0, &count) }) else {
      return output.append(contentsOf: "null".utf8)
    }
    defer { bson_free(text) }
    // { "v" : ... }
    let bytes = UnsafeRawBufferPointer(start: text, count: count)
    guard case .success(let object) = JSONScanner().scan(bytes), let value = object.member("v") else {
      return output.append(contentsOf: "null".utf8)
    }
    output.append(contentsOf: value.bytes)
  }
}
