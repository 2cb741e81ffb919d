import JSONText

/// Prints one JSON object member by member, as JSON.stringify would.
struct ObjectText {
  private(set) var bytes: [UInt8] = [UInt8(ascii: "{")]

  /// The finished text.
  var text: [UInt8] { bytes + [UInt8(ascii: "}")] }

  private mutating func begin(_ key: String) {
    if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
    JSONWriter.appendString(key, to: &bytes)
    bytes.append(UInt8(ascii: ":"))
  }

  mutating func add(_ key: String, _ text: String) {
    begin(key)
    JSONWriter.appendString(text, to: &bytes)
  }

  mutating func add(_ key: String, _ number: Double) {
    begin(key)
    // As JSON.stringify: what has no number in JSON is null.
    if !JSONNumber.append(number, to: &bytes) { bytes += Array("null".utf8) }
  }

  mutating func add(_ key: String, _ isTrue: Bool) {
    begin(key)
    bytes += Array((isTrue ? "true" : "false").utf8)
  }

  mutating func add(_ key: String, json: [UInt8]) {
    begin(key)
    bytes += json
  }

  mutating func add(_ key: String, array: [[UInt8]]) {
    begin(key)
    bytes.append(UInt8(ascii: "["))
    bytes.append(contentsOf: array.joined(separator: [UInt8(ascii: ",")]))
    bytes.append(UInt8(ascii: "]"))
  }
}
