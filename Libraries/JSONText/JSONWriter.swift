/// Appends JSON to a byte array, with the escapes JavaScript's JSON.stringify makes and no others.
public enum JSONWriter {
  /// Appends `text` as a JSON string, quotes included.
  public static func appendString(_ text: String, to output: inout [UInt8]) {
    var text = text
    text.withUTF8 { appendString(utf8: UnsafeRawBufferPointer($0), to: &output) }
  }

  /// Appends UTF-8 as a JSON string, quotes included. `utf8` must be valid UTF-8: it is not checked again, and what is
  /// invalid in it stays invalid.
  public static func appendString(utf8: UnsafeRawBufferPointer, to output: inout [UInt8]) {
    output.reserveCapacity(output.count + utf8.count + 2)
    output.append(0x22)
    appendEscaped(utf8, to: &output)
    output.append(0x22)
  }

  /// Appends UTF-8 escaped for the inside of a JSON string, without quotes. Same rule for `utf8`.
  public static func appendEscaped(_ utf8: UnsafeRawBufferPointer, to output: inout [UInt8]) {
    guard let base = utf8.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
    let end = base + utf8.count
    var runStart = base
    var place = base
    while place < end {
      if end - place >= 8 {
        let stops = wordBytesThatNeedEscaping(loadWord(place))
        if stops == 0 {
          place += 8
          continue
        }
        place += stops.trailingZeroBitCount &>> 3
      }
      let byte = place.pointee
      if byte < 0x20 || byte == 0x22 || byte == 0x5C {
        output.append(contentsOf: UnsafeBufferPointer(start: runStart, count: place - runStart))
        appendEscape(byte, to: &output)
        runStart = place + 1
      }
      place += 1
    }
    output.append(contentsOf: UnsafeBufferPointer(start: runStart, count: end - runStart))
  }

  static func appendEscape(_ byte: UInt8, to output: inout [UInt8]) {
    output.append(0x5C)
    switch byte {
    case 0x22, 0x5C: output.append(byte)
    case 0x08: output.append(0x62)
    case 0x09: output.append(0x74)
    case 0x0A: output.append(0x6E)
    case 0x0C: output.append(0x66)
    case 0x0D: output.append(0x72)
    default: appendHexEscapeBody(UInt16(byte), to: &output)
    }
  }

  /// `uXXXX`, lower case; the backslash is there already.
  static func appendHexEscapeBody(_ unit: UInt16, to output: inout [UInt8]) {
    output.append(0x75)
    for shift in [12, 8, 4, 0] as [UInt16] {
      let digit = UInt8(unit >> shift & 0x0F)
      output.append(digit < 10 ? 0x30 + digit : 0x57 + digit)
    }
  }

  /// As `wordBytesThatEndARun`, but beyond ASCII nothing needs an escape. Only the lowest bit is exact.
  @inline(__always)
  private static func wordBytesThatNeedEscaping(_ word: UInt64) -> UInt64 {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let quotes = word ^ (ones &* 0x22)
    let backslashes = word ^ (ones &* 0x5C)
    let controls = (word &- ones &* 0x20) & ~word
    return ((quotes &- ones) & ~quotes | (backslashes &- ones) & ~backslashes | controls) & (ones &* 0x80)
  }

  /// Appends a validated string slice with minimal escapes: what JSON.stringify(JSON.parse(slice)) prints. Lone
  /// surrogates come out as `\udXXX`.
  static func appendNormalized(content: UnsafeRawBufferPointer, to output: inout [UInt8]) {
    output.append(0x22)
    var reader = JSONStringReader(content)
    while let piece = reader.next() {
      switch piece {
      case .run(let run): output.append(contentsOf: run)
      case .scalar(let scalar):
        if scalar < 0x20 || scalar == 0x22 || scalar == 0x5C {
          appendEscape(UInt8(scalar), to: &output)
        } else {
          appendUTF8(scalar, to: &output)
        }
      case .loneSurrogate(let unit):
        output.append(0x5C)
        appendHexEscapeBody(unit, to: &output)
      }
    }
    output.append(0x22)
  }
}
