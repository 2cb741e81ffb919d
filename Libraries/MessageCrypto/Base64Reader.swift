/// Base64 (RFC 4648, standard alphabet) read strictly, character by character, into memory of the caller's: for keys and
/// ciphertexts, where two texts must not stand for the same bytes. Padding may be left out; it may not be wrong.
public struct Base64Reader {
  /// Bytes written up to here.
  public private(set) var written = 0
  private var group: UInt32 = 0
  private var groupCount = 0
  private var paddingCount = 0
  private var isBroken = false

  public init() {}

  /// Takes the next character. `bytes` must have room for three bytes for every four characters, rounded up.
  public mutating func take(_ character: UInt8, into bytes: UnsafeMutableRawBufferPointer) {
    if character == UInt8(ascii: "=") {
      paddingCount += 1
      return
    }
    let value = Self.value(character)
    guard value < 64, paddingCount == 0 else {
      isBroken = true
      return
    }
    group = group << 6 | UInt32(value)
    groupCount += 1
    guard groupCount == 4 else { return }
    for shift in [16, 8, 0] as [UInt32] { put(UInt8(truncatingIfNeeded: group >> shift), into: bytes) }
    group = 0
    groupCount = 0
  }

  /// Ends the text; false when it is not base64. Bits that belong to no byte must be zero.
  public mutating func finish(into bytes: UnsafeMutableRawBufferPointer) -> Bool {
    guard !isBroken, paddingCount == 0 || groupCount + paddingCount == 4, paddingCount < 3 else { return false }
    switch groupCount {
    case 0: return paddingCount == 0
    case 2:
      guard group & 0x0F == 0 else { return false }
      put(UInt8(truncatingIfNeeded: group >> 4), into: bytes)
      return true
    case 3:
      guard group & 0x03 == 0 else { return false }
      put(UInt8(truncatingIfNeeded: group >> 10), into: bytes)
      put(UInt8(truncatingIfNeeded: group >> 2), into: bytes)
      return true
    default: return false
    }
  }

  /// The bytes that `text` stands for, or nil when it is not base64. For what is not secret.
  public static func decode(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    var reader = Base64Reader()
    var isWhole = false
    let bytes = [UInt8](unsafeUninitializedCapacity: (text.count + 3) / 4 * 3) { buffer, initialised in
      let target = UnsafeMutableRawBufferPointer(buffer)
      for character in text { reader.take(character, into: target) }
      isWhole = reader.finish(into: target)
      initialised = isWhole ? reader.written : 0
    }
    return isWhole ? bytes : nil
  }

  /// The character at `place` of the padded text for `bytes`.
  static func digit(_ place: Int, of bytes: UnsafeRawBufferPointer) -> UInt8 {
    let first = place / 4 * 3
    func byte(_ index: Int) -> UInt8 { index < bytes.count ? bytes[index] : 0 }
    let value: UInt8
    switch place % 4 {
    case 0: value = byte(first) >> 2
    case 1: value = byte(first) << 4 & 0x30 | byte(first + 1) >> 4
    case 2:
      guard first + 1 < bytes.count else { return UInt8(ascii: "=") }
      value = byte(first + 1) << 2 & 0x3C | byte(first + 2) >> 6
    default:
      guard first + 2 < bytes.count else { return UInt8(ascii: "=") }
      value = byte(first + 2) & 0x3F
    }
    // By arithmetic and not by a table: which cache lines were touched would tell of the key.
    switch value {
    case 0..<26: return UInt8(ascii: "A") + value
    case 26..<52: return UInt8(ascii: "a") + (value - 26)
    case 52..<62: return UInt8(ascii: "0") + (value - 52)
    case 62: return UInt8(ascii: "+")
    default: return UInt8(ascii: "/")
    }
  }

  private mutating func put(_ byte: UInt8, into bytes: UnsafeMutableRawBufferPointer) {
    bytes[written] = byte
    written += 1
  }

  /// 0 to 63, or 255 for a byte outside the alphabet.
  private static func value(_ character: UInt8) -> UInt8 {
    switch character {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): return character - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): return character - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): return character - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): return 62
    case UInt8(ascii: "/"): return 63
    default: return 255
    }
  }
}
