/// The fast path: recognises a text that is its own normal form in one scan.
enum NormalForm {
  /// - Returns: the length of the program in bytes when the text is in normal form and its scheme is not special;
  ///   nil means only that the full parser must look.
  static func programLength(of text: UnsafeBufferPointer<UInt8>) -> Int? {
    let count = text.count
    guard count >= 4, ByteClass.isLowerLetter(text[0]) else { return nil }
    var index = 1
    while index < count, text[index] != UInt8(ascii: ":") {
      let byte = text[index]
      guard ByteClass.isSchemeTail(byte), ByteClass.lowered(byte) == byte else { return nil }
      index += 1
    }
    guard index + 2 < count, text[index + 1] == UInt8(ascii: "/"), text[index + 2] == UInt8(ascii: "/"),
      !SpecialScheme.isSpecial(text[..<index])
    else { return nil }
    index += 3
    let host = ByteClass.opaqueHost
    while index < count, text[index] != UInt8(ascii: "/") {
      guard host.contains(text[index]) else { return nil }
      index += 1
    }
    let programLength = index
    let segment = ByteClass.pathSegment
    while index < count {
      // At a slash: a segment that is neither empty nor a dot segment must follow.
      let start = index + 1
      index = start
      while index < count, text[index] != UInt8(ascii: "/") {
        guard segment.contains(text[index]) else { return nil }
        index += 1
      }
      guard index > start, DotSegment.kind(text[start..<index]) == .none else { return nil }
    }
    return programLength
  }
}

/// Segments that mean "here" and "up", with `%2e` as another way to write a dot.
enum DotSegment {
  case none, single, double

  @inline(__always)
  static func kind(_ segment: Slice<UnsafeBufferPointer<UInt8>>) -> DotSegment {
    guard let first = segment.first, first == UInt8(ascii: ".") || first == UInt8(ascii: "%"), segment.count <= 6
    else { return .none }
    return count(segment)
  }

  private static func count(_ segment: Slice<UnsafeBufferPointer<UInt8>>) -> DotSegment {
    var dots = 0
    var index = segment.startIndex
    while index < segment.endIndex {
      if segment[index] == UInt8(ascii: ".") {
        index += 1
      } else if index + 2 < segment.endIndex, segment[index] == UInt8(ascii: "%"),
        segment[index + 1] == UInt8(ascii: "2"), segment[index + 2] | 0x20 == UInt8(ascii: "e")
      {
        index += 3
      } else {
        return .none
      }
      dots += 1
    }
    return dots == 1 ? .single : dots == 2 ? .double : .none
  }
}
