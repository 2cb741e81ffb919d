import JSONText

/// Cuts a member out of a JSON object as the very bytes that came: a record's `data` must not be re-encoded, since
/// numbers, key order and escapes are the sender's and signatures depend on them.
enum RecordBody {
  /// The bytes of the last member `name` of the object, or nil when this is not an object that has it.
  static func member(_ name: StaticString, of bytes: [UInt8]) -> ArraySlice<UInt8>? {
    bytes.withUnsafeBytes { raw in
      guard case .success(let value) = JSONScanner().scan(raw), value.kind == .object,
        let member = value.member(name)
      else { return nil }
      return bytes[member.range(in: raw)]
    }
  }

  /// Whether the bytes are one JSON text, by the node's own rules.
  static func isJSON(_ bytes: [UInt8]) -> Bool {
    bytes.withUnsafeBytes { raw in
      if case .success = JSONScanner(acceptsByteOrderMark: false).scan(raw) { return true }
      return false
    }
  }
}
