/// An address as the WHATWG "IPv6 parser" reads it and its serialiser writes it.
struct IPv6Address {
  private var pieces: InlineArray<8, UInt16> = .init(repeating: 0)

  /// - Parameter text: without brackets.
  init?(_ text: Slice<UnsafeBufferPointer<UInt8>>) {
    var index = text.startIndex
    let end = text.endIndex
    var count = 0
    var compressAt: Int?
    if index < end, text[index] == UInt8(ascii: ":") {
      guard index + 1 < end, text[index + 1] == UInt8(ascii: ":") else { return nil }
      index += 2
      count = 1
      compressAt = 1
    }
    while index < end {
      if count == 8 { return nil }
      if text[index] == UInt8(ascii: ":") {
        if compressAt != nil { return nil }
        index += 1
        count += 1
        compressAt = count
        continue
      }
      let pieceStart = index
      var piece: UInt16 = 0
      while index < end, index - pieceStart < 4, let digit = ByteClass.hexValue(text[index]) {
        piece = piece << 4 | UInt16(digit)
        index += 1
      }
      if index < end, text[index] == UInt8(ascii: ".") {
        guard index > pieceStart, count <= 6, let address = Self.dotted(text[pieceStart...]) else { return nil }
        pieces[count] = UInt16(address >> 16)
        pieces[count + 1] = UInt16(truncatingIfNeeded: address)
        count += 2
        index = end
        break
      }
      if index < end {
        guard text[index] == UInt8(ascii: ":"), index > pieceStart else { return nil }
        index += 1
        if index == end { return nil }
      }
      pieces[count] = piece
      count += 1
    }
    if let compressAt {
      let moved = count - compressAt
      for offset in stride(from: moved - 1, through: 0, by: -1) where count < 8 {
        pieces[8 - moved + offset] = pieces[compressAt + offset]
        pieces[compressAt + offset] = 0
      }
    } else if count != 8 {
      return nil
    }
  }

  func write(to output: inout ByteWriter) {
    let gap = longestZeroRun()
    output.append(UInt8(ascii: "["))
    var index = 0
    while index < 8 {
      if let gap, gap.start == index {
        output.append(UInt8(ascii: ":"))
        if index == 0 { output.append(UInt8(ascii: ":")) }
        index += gap.count
        continue
      }
      var hasDigits = false
      for shift in stride(from: UInt16(12), through: 0, by: -4) {
        let digit = UInt8(pieces[index] >> shift & 0xF)
        if digit == 0, !hasDigits, shift > 0 { continue }
        hasDigits = true
        output.append(digit < 10 ? 0x30 + digit : 0x61 + digit - 10)
      }
      if index < 7 { output.append(UInt8(ascii: ":")) }
      index += 1
    }
    output.append(UInt8(ascii: "]"))
  }

  /// The first of the longest runs of two or more zero pieces.
  private func longestZeroRun() -> (start: Int, count: Int)? {
    var best: (start: Int, count: Int)?
    var index = 0
    while index < 8 {
      let start = index
      while index < 8, pieces[index] == 0 { index += 1 }
      if index - start > max(best?.count ?? 1, 1) { best = (start, index - start) }
      if index == start { index += 1 }
    }
    return best
  }

  /// Four decimal numbers without leading zeros, up to the end of the text.
  private static func dotted(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> UInt32? {
    var result: UInt32 = 0
    var parts = 0
    var index = text.startIndex
    while index < text.endIndex {
      if parts > 0 {
        guard parts < 4, text[index] == UInt8(ascii: ".") else { return nil }
        index += 1
      }
      let start = index
      var value: UInt32 = 0
      while index < text.endIndex, ByteClass.isDigit(text[index]) {
        if index > start, value == 0 { return nil }
        value = value * 10 + UInt32(text[index] - 0x30)
        if value > 255 { return nil }
        index += 1
      }
      guard index > start else { return nil }
      result = result << 8 | value
      parts += 1
    }
    return parts == 4 ? result : nil
  }
}
