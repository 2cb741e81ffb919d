/// An address as the WHATWG "IPv4 parser" reads it: one to four numbers, each decimal, octal (`0…`) or hexadecimal
/// (`0x…`), the last of which fills the rest.
struct IPv4Address {
  let value: UInt32

  init?(_ domain: Slice<UnsafeBufferPointer<UInt8>>) {
    var parts: (Int, UInt64) = (0, 0)
    var last: UInt64 = 0
    for part in Parts(domain) {
      if parts.0 == 4 { return nil }
      if parts.0 > 0 {
        guard last <= 255 else { return nil }
        parts.1 = parts.1 << 8 | last
      }
      guard let number = Self.number(part) else { return nil }
      last = number
      parts.0 += 1
    }
    let (count, head) = parts
    guard count > 0 else { return nil }
    let tailBits = UInt64(8 * (5 - count))
    guard last < 1 << tailBits else { return nil }
    value = UInt32(head << tailBits | last)
  }

  /// Whether a domain has to be an address: "ends in a number checker".
  static func endsInNumber(_ domain: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    var last: Slice<UnsafeBufferPointer<UInt8>>?
    for part in Parts(domain) { last = part }
    guard let last, !last.isEmpty else { return false }
    return last.allSatisfy(ByteClass.isDigit) || number(last) != nil
  }

  func write(to output: inout ByteWriter) {
    for shift in stride(from: UInt32(24), through: 0, by: -8) {
      let byte = UInt8(truncatingIfNeeded: value >> shift)
      if byte >= 100 { output.append(0x30 + byte / 100) }
      if byte >= 10 { output.append(0x30 + byte / 10 % 10) }
      output.append(0x30 + byte % 10)
      if shift > 0 { output.append(UInt8(ascii: ".")) }
    }
  }

  /// A number, or nil; one that is too large for any place is clamped to 2^32.
  private static func number(_ text: Slice<UnsafeBufferPointer<UInt8>>) -> UInt64? {
    guard let first = text.first else { return nil }
    var digits = text
    var radix: UInt64 = 10
    if first == UInt8(ascii: "0"), text.count > 1 {
      let isHexadecimal = text[text.startIndex + 1] | 0x20 == UInt8(ascii: "x")
      digits = text.dropFirst(isHexadecimal ? 2 : 1)
      radix = isHexadecimal ? 16 : 8
    }
    var result: UInt64 = 0
    for byte in digits {
      guard let digit = ByteClass.hexValue(byte), UInt64(digit) < radix else { return nil }
      result = min(result * radix + UInt64(digit), 1 << 32)
    }
    return result
  }

  /// The parts between dots; one dot at the end is ignored.
  private struct Parts: Sequence, IteratorProtocol {
    private var rest: Slice<UnsafeBufferPointer<UInt8>>?

    init(_ domain: Slice<UnsafeBufferPointer<UInt8>>) {
      rest = domain.count > 1 && domain.last == UInt8(ascii: ".") ? domain.dropLast() : domain
    }

    mutating func next() -> Slice<UnsafeBufferPointer<UInt8>>? {
      guard let text = rest else { return nil }
      guard let dot = text.firstIndex(of: UInt8(ascii: ".")) else {
        rest = nil
        return text
      }
      rest = text[(dot + 1)...]
      return text[..<dot]
    }
  }
}
