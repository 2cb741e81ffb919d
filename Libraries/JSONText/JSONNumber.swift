import Glibc

/// Numbers as JavaScript reads and prints them: IEEE doubles, ECMAScript Number::toString.
public enum JSONNumber {
  /// The double nearest to a validated number (ties to even); infinite when it is too large. Nil for another kind.
  /// Time is linear in the length of the text.
  public static func value(of slice: JSONSlice) -> Double? {
    guard slice.kind == .number else { return nil }
    return parse(slice.bytes)
  }

  /// Appends a finite double the way ECMAScript prints it: `1e+30`, `1e-7`, `100000000000000000000`, `0` for -0.
  /// - Returns: false, with nothing appended, when `value` is not finite.
  @discardableResult
  public static func append(_ value: Double, to output: inout [UInt8]) -> Bool {
    guard value.isFinite else { return false }
    var magnitude = value
    if value < 0 {
      output.append(0x2D)
      magnitude = -value
    }
    // Up to 2^53 every integer is exact and prints as itself.
    if magnitude < 9_007_199_254_740_992, magnitude == magnitude.rounded(.towardZero) {
      appendInteger(UInt64(magnitude), to: &output)
    } else {
      appendShortest(magnitude, to: &output)
    }
    return true
  }

  /// Appends a validated number printed again. False, with nothing appended, when it is not finite.
  static func appendReprinted(_ text: UnsafeRawBufferPointer, to output: inout [UInt8]) -> Bool {
    // Up to 15 digits without point or exponent are canonical already, save for "-0".
    if text.count <= 15, text.allSatisfy({ isDigit($0) || $0 == 0x2D }) {
      if text.count == 2, text[0] == 0x2D, text[1] == 0x30 {
        output.append(0x30)
      } else {
        output.append(contentsOf: text)
      }
      return true
    }
    return append(parse(text), to: &output)
  }

  static func appendInteger(_ value: UInt64, to output: inout [UInt8]) {
    let first = output.count
    var left = value
    repeat {
      output.append(0x30 + UInt8(left % 10))
      left /= 10
    } while left > 0
    output[first...].reverse()
  }

  // MARK: Text to double

  /// No double needs more significant digits than this to be told from its neighbours, given one more digit that says
  /// whether anything non-zero follows (the longest exact halfway point has 767).
  private static let significantDigitsMax = 770

  private static func parse(_ text: UnsafeRawBufferPointer) -> Double {
    var index = 0
    let isNegative = text[0] == 0x2D
    if isNegative { index = 1 }
    // value = digits × 10^exponent, leading zeros dropped.
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: significantDigitsMax + 32) { digits in
      var count = 0
      var exponent = 0
      var isAfterPoint = false
      var hasDroppedNonZero = false
      var mantissa: UInt64 = 0
      while index < text.count {
        let byte = text[index]
        if byte == 0x2E {
          isAfterPoint = true
        } else if isDigit(byte) {
          if count == 0, byte == 0x30 {
            if isAfterPoint { exponent -= 1 }
          } else if count < significantDigitsMax {
            digits[count] = byte
            count += 1
            if count <= 19 { mantissa = mantissa &* 10 &+ UInt64(byte &- 0x30) }
            if isAfterPoint { exponent -= 1 }
          } else {
            if byte != 0x30 { hasDroppedNonZero = true }
            if !isAfterPoint { exponent += 1 }
          }
        } else {
          break
        }
        index += 1
      }
      if index < text.count { exponent += writtenExponent(text, from: index + 1) }
      let magnitude = count == 0 ? 0 : scale(digits, count, mantissa, hasDroppedNonZero, exponent)
      return isNegative ? -magnitude : magnitude
    }
  }

  /// The exponent after the letter, held within ±10^15 so that no text can overflow it.
  private static func writtenExponent(_ text: UnsafeRawBufferPointer, from start: Int) -> Int {
    var index = start
    let isNegative = text[index] == 0x2D
    if isNegative || text[index] == 0x2B { index += 1 }
    var value = 0
    while index < text.count {
      value = min(value * 10 + Int(text[index] - 0x30), 1_000_000_000_000_000)
      index += 1
    }
    return isNegative ? -value : value
  }

  private static func scale(
    _ digits: UnsafeMutableBufferPointer<UInt8>, _ digitCount: Int, _ mantissa: UInt64, _ hasDroppedNonZero: Bool,
    _ exponent: Int
  ) -> Double {
    // Both operands and so the one rounding are exact (Clinger's fast path).
    if digitCount <= 15, exponent >= -22, exponent <= 22 {
      let power = exactPowersOfTen[abs(exponent)]
      return exponent < 0 ? Double(mantissa) / power : Double(mantissa) * power
    }
    if exponent + digitCount > 310 { return .infinity }
    if exponent + digitCount < -330 { return 0 }
    // An integer with an exponent has no radix character, so strtod reads it alike in every locale.
    var count = digitCount
    var exponent = exponent
    if hasDroppedNonZero {
      digits[count] = 0x31
      count += 1
      exponent -= 1
    }
    digits[count] = 0x65
    count += 1
    if exponent < 0 {
      digits[count] = 0x2D
      count += 1
    }
    var divisor = 10_000
    let magnitude = abs(exponent)
    while divisor > 0 {
      digits[count] = 0x30 + UInt8(magnitude / divisor % 10)
      count += 1
      divisor /= 10
    }
    digits[count] = 0
    return digits.withMemoryRebound(to: CChar.self) { strtod($0.baseAddress.unsafelyUnwrapped, nil) }
  }

  private static let exactPowersOfTen: [Double] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
  ]

  // MARK: Double to text

  /// Swift prints the shortest digits that read back as the same double, the closest such, as ECMAScript asks; only
  /// the layout differs.
  private static func appendShortest(_ magnitude: Double, to output: inout [UInt8]) {
    var description = magnitude.description
    description.withUTF8 { text in
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { digits in
        var count = 0
        // value = 0.d1d2d3… × 10^point
        var point = 0
        var isAfterPoint = false
        var index = 0
        while index < text.count, text[index] != 0x65 {
          let byte = text[index]
          if byte == 0x2E {
            isAfterPoint = true
          } else if count == 0, byte == 0x30 {
            if isAfterPoint { point -= 1 }
          } else {
            digits[count] = byte
            count += 1
            if !isAfterPoint { point += 1 }
          }
          index += 1
        }
        if index < text.count { point += writtenExponent(UnsafeRawBufferPointer(text), from: index + 1) }
        while count > 1, digits[count - 1] == 0x30 { count -= 1 }
        appendLayout(UnsafeBufferPointer(rebasing: UnsafeBufferPointer(digits)[..<count]), point, to: &output)
      }
    }
  }

  /// ECMA-262, Number::toString, radix 10; `point` is its n.
  private static func appendLayout(_ digits: UnsafeBufferPointer<UInt8>, _ point: Int, to output: inout [UInt8]) {
    let count = digits.count
    if count <= point, point <= 21 {
      output.append(contentsOf: digits)
      output.append(contentsOf: repeatElement(0x30, count: point - count))
    } else if 0 < point, point <= 21 {
      output.append(contentsOf: digits[..<point])
      output.append(0x2E)
      output.append(contentsOf: digits[point...])
    } else if -6 < point, point <= 0 {
      output.append(0x30)
      output.append(0x2E)
      output.append(contentsOf: repeatElement(0x30, count: -point))
      output.append(contentsOf: digits)
    } else {
      output.append(digits[0])
      if count > 1 {
        output.append(0x2E)
        output.append(contentsOf: digits[1...])
      }
      output.append(0x65)
      output.append(point > 0 ? 0x2B : 0x2D)
      appendInteger(UInt64(abs(point - 1)), to: &output)
    }
  }
}
