import PluginAPI

/// The query of a list request (b3nd.md section 9, with the clamps of its `->` line).
struct ListParameters {
  static let limitDefault: UInt64 = 50
  /// Above what any page can hold, and exact as a double.
  static let numberMax = 9_007_199_254_740_991.0

  var page: UInt64 = 1
  var limit = limitDefault
  /// UTF-8; empty: no pattern.
  var pattern: [UInt8] = []
  var sort = BP_SORT_NONE
  var flags: UInt32 = 0

  /// - Parameter query: without the question mark, as sent. Of repeated keys the first counts; an empty value is none.
  init(_ query: UnsafeBufferPointer<UInt8>) {
    guard !query.isEmpty else { return }
    var seen: Set<String> = []
    for pair in query.split(separator: UInt8(ascii: "&")) {
      let mark = pair.firstIndex(of: UInt8(ascii: "="))
      let name = FormText.decode(pair[..<(mark ?? pair.endIndex)])
      guard ["page", "limit", "pattern", "sortBy", "sortOrder"].contains(name), seen.insert(name).inserted else {
        continue
      }
      let value = mark.map { FormText.decode(pair[($0 + 1)...]) } ?? ""
      guard !value.isEmpty else { continue }
      switch name {
      case "page": page = Self.count(value, lowest: 1) ?? 1
      case "limit": limit = Self.count(value, lowest: 1) ?? Self.limitDefault
      case "pattern": pattern = Array(value.utf8)
      case "sortBy":
        if value == "name" { sort = BP_SORT_NAME } else if value == "timestamp" { sort = BP_SORT_TIMESTAMP }
      default: if value == "desc" { flags = BP_LIST_DESCENDING }
      }
    }
  }

  /// A JavaScript number, rounded down; nil when it is none or below `lowest`.
  private static func count(_ text: String, lowest: Double) -> UInt64? {
    let number = JavaScriptNumber.parse(text)
    guard number >= lowest else { return nil }
    return UInt64(min(number, numberMax))
  }
}

/// application/x-www-form-urlencoded, as URLSearchParams reads it.
enum FormText {
  /// `+` is a space; `%XX` is a byte; a bad escape stays as it is; bytes that are not UTF-8 are replaced.
  static func decode(_ bytes: Slice<UnsafeBufferPointer<UInt8>>) -> String {
    var output: [UInt8] = []
    output.reserveCapacity(bytes.count)
    var index = bytes.startIndex
    while index < bytes.endIndex {
      let byte = bytes[index]
      if byte == UInt8(ascii: "%"), index + 2 < bytes.endIndex, let high = digit(bytes[index + 1]),
        let low = digit(bytes[index + 2])
      {
        output.append(high << 4 | low)
        index += 3
      } else {
        output.append(byte == UInt8(ascii: "+") ? 0x20 : byte)
        index += 1
      }
    }
    return String(decoding: output, as: UTF8.self)
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x37
    case 0x61...0x66: byte - 0x57
    default: nil
    }
  }
}

/// JavaScript's Number(text).
enum JavaScriptNumber {
  static func parse(_ text: String) -> Double {
    let space: Set<Unicode.Scalar> = [
      " ", "\t", "\n", "\r", "\u{B}", "\u{C}", "\u{A0}", "\u{FEFF}", "\u{2028}", "\u{2029}",
    ]
    var scalars = text.unicodeScalars[...]
    while let first = scalars.first, space.contains(first) { scalars.removeFirst() }
    while let last = scalars.last, space.contains(last) { scalars.removeLast() }
    let trimmed = String(scalars)
    if trimmed.isEmpty { return 0 }
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)]
    where trimmed.hasPrefix(prefix) {
      return whole(trimmed.dropFirst(2), radix: radix)
    }
    switch trimmed {
    case "Infinity", "+Infinity": return .infinity
    case "-Infinity": return -.infinity
    default: break
    }
    // Double's own parser takes more than JavaScript does: names of infinities, hexadecimal fractions.
    guard trimmed.utf8.count <= 512, trimmed.utf8.allSatisfy({ "0123456789+-.eE".utf8.contains($0) }),
      trimmed.utf8.contains(where: { $0 >= 0x30 && $0 <= 0x39 })
    else { return .nan }
    // "5." is a number in JavaScript, but not in Swift.
    return Double(trimmed) ?? Double(trimmed.replacingDot()) ?? .nan
  }

  private static func whole(_ digits: Substring, radix: Int) -> Double {
    guard !digits.isEmpty else { return .nan }
    var value = 0.0
    for character in digits {
      guard let digit = character.hexDigitValue, character.isASCII, digit < radix else { return .nan }
      value = value * Double(radix) + Double(digit)
    }
    return value
  }
}

extension String {
  /// With a zero after a dot that has no digit behind it.
  fileprivate func replacingDot() -> String {
    guard let dot = firstIndex(of: ".") else { return self }
    let after = index(after: dot)
    if after < endIndex, self[after].isNumber { return self }
    return self[...dot] + "0" + self[after...]
  }
}
