enum PercentDecoding {
  /// The byte that an escape at `index` stands for, or nil when there is none.
  static func byte(in text: UnsafeBufferPointer<UInt8>, at index: Int) -> UInt8? {
    guard index + 2 < text.count, text[index] == UInt8(ascii: "%"), let high = ByteClass.hexValue(text[index + 1]),
      let low = ByteClass.hexValue(text[index + 2])
    else { return nil }
    return high << 4 | low
  }

  /// Appends the text with its escapes decoded. A run of escapes that is not UTF-8 stays as it is written.
  static func append(_ text: UnsafeBufferPointer<UInt8>, to output: inout ByteWriter) {
    var index = 0
    while index < text.count {
      guard byte(in: text, at: index) != nil else {
        output.append(text[index])
        index += 1
        continue
      }
      let runStart = index
      let outputStart = output.count
      while let decoded = byte(in: text, at: index) {
        output.append(decoded)
        index += 3
      }
      if !UTF8Check.isValid(output.written[outputStart...]) {
        output.truncate(to: outputStart)
        for raw in text[runStart..<index] { output.append(raw) }
      }
    }
  }
}
