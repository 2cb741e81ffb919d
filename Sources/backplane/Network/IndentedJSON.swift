import JSONText

/// JSON for a person to edit: order, numbers and texts as they are, a member on each line, two spaces a level.
enum IndentedJSON {
  /// `document` is one JSON text.
  static func text(_ document: [UInt8]) -> [UInt8] {
    document.withUnsafeBytes { raw in
      guard case .success(let value) = JSONScanner().scan(raw) else { return Array(raw) }
      var output: [UInt8] = []
      append(value, to: &output, depth: 0)
      return output
    }
  }

  private static func append(_ value: JSONSlice, to output: inout [UInt8], depth: Int) {
    switch value.kind {
    case .object:
      appendAll(value.members, "{", "}", to: &output, depth: depth) { member, output in
        output += member.key.bytes + Array(": ".utf8)
        append(member.value, to: &output, depth: depth + 1)
      }
    case .array:
      appendAll(value.elements, "[", "]", to: &output, depth: depth) { element, output in
        append(element, to: &output, depth: depth + 1)
      }
    default: output += value.bytes
    }
  }

  private static func appendAll<Elements: Sequence>(
    _ elements: Elements, _ open: Character, _ close: Character, to output: inout [UInt8], depth: Int,
    _ each: (Elements.Element, inout [UInt8]) -> Void
  ) {
    output += Array(String(open).utf8)
    var isEmpty = true
    for element in elements {
      if !isEmpty { output.append(UInt8(ascii: ",")) }
      isEmpty = false
      output += Array(("\n" + String(repeating: "  ", count: depth + 1)).utf8)
      each(element, &output)
    }
    if !isEmpty { output += Array(("\n" + String(repeating: "  ", count: depth)).utf8) }
    output += Array(String(close).utf8)
  }
}
