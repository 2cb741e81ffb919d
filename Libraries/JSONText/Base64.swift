/// Base64 (RFC 4648): strict and padded on the way out, as lenient as the peer on the way in.
public enum Base64 {
  /// The length of the padded text for so many bytes.
  public static func encodedCount(_ byteCount: Int) -> Int { (byteCount + 2) / 3 * 4 }

  /// Appends the standard alphabet with padding, without line breaks.
  public static func encode(_ bytes: UnsafeRawBufferPointer, into output: inout [UInt8]) {
    let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    let letters = alphabet.utf8Start
    output.reserveCapacity(output.count + encodedCount(bytes.count))
    var index = 0
    while index + 2 < bytes.count {
      let group = Int(bytes[index]) << 16 | Int(bytes[index + 1]) << 8 | Int(bytes[index + 2])
      output.append(letters[group >> 18])
      output.append(letters[group >> 12 & 63])
      output.append(letters[group >> 6 & 63])
      output.append(letters[group & 63])
      index += 3
    }
    let left = bytes.count - index
    guard left > 0 else { return }
    let group = Int(bytes[index]) << 16 | (left == 2 ? Int(bytes[index + 1]) << 8 : 0)
    output.append(letters[group >> 18])
    output.append(letters[group >> 12 & 63])
    output.append(left == 2 ? letters[group >> 6 & 63] : 0x3D)
    output.append(0x3D)
  }

  /// Appends what Node's Buffer.from(text, "base64") gives: both alphabets, even mixed; padding optional; the first
  /// `=` ends the data; every other byte outside the alphabets is skipped; a last single character and left-over bits
  /// are dropped. Never fails.
  public static func decodeLeniently(_ text: UnsafeRawBufferPointer, into output: inout [UInt8]) {
    output.reserveCapacity(output.count + text.count / 4 * 3 + 3)
    sextets.withUnsafeBufferPointer { sextets in
      var group: UInt32 = 0
      var count = 0
      var index = 0
      while index < text.count {
        if count == 0, index + 4 <= text.count {
          // Valid sextets are below 64, so one junk byte shows in the union.
          let first = sextets[Int(text[index])]
          let second = sextets[Int(text[index + 1])]
          let third = sextets[Int(text[index + 2])]
          let fourth = sextets[Int(text[index + 3])]
          if first | second | third | fourth < 64 {
            output.append(first << 2 | second >> 4)
            output.append(second << 4 | third >> 2)
            output.append(third << 6 | fourth)
            index += 4
            continue
          }
        }
        let byte = text[index]
        index += 1
        if byte == 0x3D { break }
        let sextet = sextets[Int(byte)]
        if sextet >= 64 { continue }
        group = group << 6 | UInt32(sextet)
        count += 1
        if count == 4 {
          output.append(UInt8(truncatingIfNeeded: group >> 16))
          output.append(UInt8(truncatingIfNeeded: group >> 8))
          output.append(UInt8(truncatingIfNeeded: group))
          count = 0
        }
      }
      if count >= 2 { output.append(UInt8(truncatingIfNeeded: group >> (count == 2 ? 4 : 10))) }
      if count == 3 { output.append(UInt8(truncatingIfNeeded: group >> 2)) }
    }
  }

  /// By byte: the value of the character in either alphabet, 255 for all others.
  private static let sextets: [UInt8] = [
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 62, 255, 62,
    255, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 255, 255, 255, 255, 255, 255, 255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 255, 255, 255, 255, 63, 255, 26, 27, 28, 29, 30,
    31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
  ]
}
