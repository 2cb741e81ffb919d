/// Cuts a member out of a JSON object as the very bytes that came: a record's `data` must not be re-encoded, since
/// numbers, key order and escapes are the sender's and signatures depend on them.
enum RecordBody {
  /// The bytes of the last member `name` of the object, or nil when this is not an object that has it. Strings and
  /// brackets are followed; whether the rest is well-formed is for the reader of the value.
  static func member(_ name: String, of bytes: [UInt8]) -> ArraySlice<UInt8>? {
    var index = skipSpace(bytes, 0)
    guard index < bytes.count, bytes[index] == UInt8(ascii: "{") else { return nil }
    index += 1
    var found: ArraySlice<UInt8>?
    while true {
      index = skipSpace(bytes, index)
      guard index < bytes.count, bytes[index] == UInt8(ascii: "\""), let keyEnd = stringEnd(bytes, index) else {
        return found
      }
      let key = bytes[(index + 1)..<(keyEnd - 1)]
      index = skipSpace(bytes, keyEnd)
      guard index < bytes.count, bytes[index] == UInt8(ascii: ":") else { return nil }
      let start = skipSpace(bytes, index + 1)
      guard let end = valueEnd(bytes, start) else { return nil }
      if key.elementsEqual(name.utf8) { found = bytes[start..<end] }
      index = skipSpace(bytes, end)
      guard index < bytes.count, bytes[index] == UInt8(ascii: ",") else { return found }
      index += 1
    }
  }

  private static func skipSpace(_ bytes: [UInt8], _ start: Int) -> Int {
    var index = start
    while index < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[index]) { index += 1 }
    return index
  }

  /// The index behind the closing quote.
  private static func stringEnd(_ bytes: [UInt8], _ start: Int) -> Int? {
    var index = start + 1
    while index < bytes.count {
      switch bytes[index] {
      case UInt8(ascii: "\\"): index += 2
      case UInt8(ascii: "\""): return index + 1
      default: index += 1
      }
    }
    return nil
  }

  private static func valueEnd(_ bytes: [UInt8], _ start: Int) -> Int? {
    var depth = 0
    var index = start
    while index < bytes.count {
      switch bytes[index] {
      case UInt8(ascii: "\""):
        guard let end = stringEnd(bytes, index) else { return nil }
        index = end
        if depth == 0 { return index }
        continue
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        if depth == 0 { return index > start ? index : nil }
        depth -= 1
        if depth == 0 { return index + 1 }
      case UInt8(ascii: ","), 0x20, 0x09, 0x0A, 0x0D:
        if depth == 0 { return index > start ? index : nil }
      default: break
      }
      index += 1
    }
    return nil
  }
}
