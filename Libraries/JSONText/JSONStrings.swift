/// What an escape that stands for half a surrogate pair becomes in UTF-8.
public enum LoneSurrogates: Sendable {
  /// U+FFFD, as a JavaScript string becomes when it is encoded.
  case replaced
  /// The three bytes of generalised UTF-8 ("WTF-8"): nothing is lost, but the result is not valid UTF-8.
  case kept
}

extension JSONSlice {
  /// Appends the text of a string as UTF-8, escapes resolved. Requires a string.
  public func appendText(to output: inout [UInt8], loneSurrogates: LoneSurrogates = .replaced) {
    let content = rawContent
    guard hasEscapes else {
      output.append(contentsOf: content)
      return
    }
    output.reserveCapacity(output.count + content.count)
    var reader = JSONStringReader(content)
    while let piece = reader.next() {
      switch piece {
      case .run(let run): output.append(contentsOf: run)
      case .scalar(let scalar): appendUTF8(scalar, to: &output)
      case .loneSurrogate(let unit):
        appendUTF8(loneSurrogates == .kept ? UInt32(unit) : 0xFFFD, to: &output)
      }
    }
  }

  /// Calls `body` with the text of a string as UTF-8: the slice itself when it has no escapes, else `scratch`, whose
  /// former content is lost. The pointer is valid inside `body` only. Requires a string.
  public func withText<Value, Failure: Error>(
    scratch: inout [UInt8], loneSurrogates: LoneSurrogates = .replaced,
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    if let plainText { return try body(plainText) }
    scratch.removeAll(keepingCapacity: true)
    appendText(to: &scratch, loneSurrogates: loneSurrogates)
    var outcome: Result<Value, Failure>?
    scratch.withUnsafeBytes { text in
      do throws(Failure) { outcome = .success(try body(text)) } catch { outcome = .failure(error) }
    }
    return try outcome.unsafelyUnwrapped.get()
  }

  /// The text of a string as a Swift String (lone surrogates replaced), or nil for another kind. Allocates.
  public var text: String? {
    guard kind == .string else { return nil }
    if let plainText { return String(decoding: plainText, as: UTF8.self) }
    var bytes: [UInt8] = []
    appendText(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Whether this is a string with exactly the text `ascii`, however it is escaped.
  @inline(__always)
  public func isText(_ ascii: StaticString) -> Bool {
    guard kind == .string else { return false }
    if hasEscapes { return isEscapedText(ascii) }
    let count = ascii.utf8CodeUnitCount
    guard bytes.count == count &+ 2, let base = bytes.baseAddress else { return false }
    var index = 0
    while index < count {
      if base.load(fromByteOffset: index &+ 1, as: UInt8.self) != ascii.utf8Start[index] { return false }
      index &+= 1
    }
    return true
  }

  @inline(never)
  @usableFromInline
  func isEscapedText(_ ascii: StaticString) -> Bool {
    var units = UTF16Units(rawContent)
    for index in 0..<ascii.utf8CodeUnitCount where units.next() != UInt16(ascii.utf8Start[index]) { return false }
    return units.next() == nil
  }
}

/// Reads the validated content of a string in pieces: runs that stand for themselves, and resolved escapes.
struct JSONStringReader {
  enum Piece {
    case run(UnsafeRawBufferPointer)
    case scalar(UInt32)
    case loneSurrogate(UInt16)
  }

  private var place: UnsafePointer<UInt8>
  private let end: UnsafePointer<UInt8>

  /// `content` is what lies between the quotes of a validated string, so its base address is not nil.
  init(_ content: UnsafeRawBufferPointer) {
    place = content.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
    end = place + content.count
  }

  mutating func next() -> Piece? {
    guard place < end else { return nil }
    guard place.pointee == 0x5C else {
      let first = place
      place = firstBackslash(from: place, end: end)
      return .run(UnsafeRawBufferPointer(start: first, count: place - first))
    }
    let unit = readEscape(&place)
    guard unit & 0xF800 == 0xD800 else { return .scalar(UInt32(unit)) }
    guard unit < 0xDC00, end - place >= 6, place[0] == 0x5C, place[1] == 0x75 else { return .loneSurrogate(unit) }
    var after = place
    let low = readEscape(&after)
    guard low & 0xFC00 == 0xDC00 else { return .loneSurrogate(unit) }
    place = after
    return .scalar(0x10000 + (UInt32(unit & 0x3FF) << 10 | UInt32(low & 0x3FF)))
  }
}

/// The UTF-16 code units of the validated content of a string: what JavaScript compares.
struct UTF16Units {
  private var place: UnsafePointer<UInt8>
  private let end: UnsafePointer<UInt8>
  private var pendingLow: UInt16 = 0

  init(_ content: UnsafeRawBufferPointer) {
    place = content.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
    end = place + content.count
  }

  mutating func next() -> UInt16? {
    if pendingLow != 0 {
      defer { pendingLow = 0 }
      return pendingLow
    }
    guard place < end else { return nil }
    let lead = place[0]
    if lead == 0x5C { return readEscape(&place) }
    if lead < 0x80 {
      place += 1
      return UInt16(lead)
    }
    if lead < 0xE0 {
      defer { place += 2 }
      return UInt16(lead & 0x1F) << 6 | UInt16(place[1] & 0x3F)
    }
    if lead < 0xF0 {
      defer { place += 3 }
      return UInt16(lead & 0x0F) << 12 | UInt16(place[1] & 0x3F) << 6 | UInt16(place[2] & 0x3F)
    }
    let high = UInt32(lead & 0x07) << 18 | UInt32(place[1] & 0x3F) << 12
    let scalar = (high | UInt32(place[2] & 0x3F) << 6 | UInt32(place[3] & 0x3F)) - 0x10000
    place += 4
    pendingLow = 0xDC00 | UInt16(scalar & 0x3FF)
    return 0xD800 | UInt16(scalar >> 10)
  }

  /// Negative, zero or positive as `left` sorts before, with or after `right`.
  static func compare(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
    // Equal plain ASCII first: after it both sides stand at the start of a character.
    let shared = Swift.min(left.count, right.count)
    var index = 0
    while index < shared, left[index] == right[index], left[index] < 0x80, left[index] != 0x5C { index += 1 }
    var leftUnits = UTF16Units(left)
    var rightUnits = UTF16Units(right)
    leftUnits.place += index
    rightUnits.place += index
    while true {
      switch (leftUnits.next(), rightUnits.next()) {
      case (nil, nil): return 0
      case (nil, _): return -1
      case (_, nil): return 1
      case (let one?, let other?): if one != other { return one < other ? -1 : 1 }
      }
    }
  }
}

/// Reads one validated escape and steps past it.
func readEscape(_ place: inout UnsafePointer<UInt8>) -> UInt16 {
  let letter = place[1]
  if letter == 0x75 {
    var unit: UInt16 = 0
    for index in 2..<6 { unit = unit << 4 | UInt16(hexValue(place[index]) & 0x0F) }
    place += 6
    return unit
  }
  place += 2
  switch letter {
  case 0x62: return 0x08
  case 0x66: return 0x0C
  case 0x6E: return 0x0A
  case 0x72: return 0x0D
  case 0x74: return 0x09
  default: return UInt16(letter)
  }
}

func firstBackslash(from start: UnsafePointer<UInt8>, end: UnsafePointer<UInt8>) -> UnsafePointer<UInt8> {
  let ones: UInt64 = 0x0101_0101_0101_0101
  var place = start
  while end - place >= 8 {
    let word = loadWord(place) ^ (ones &* 0x5C)
    let found = (word &- ones) & ~word & (ones &* 0x80)
    if found != 0 { return place + (found.trailingZeroBitCount &>> 3) }
    place += 8
  }
  while place < end, place.pointee != 0x5C { place += 1 }
  return place
}

/// Appends a scalar value below U+110000; a surrogate gives its three bytes of generalised UTF-8.
func appendUTF8(_ scalar: UInt32, to output: inout [UInt8]) {
  if scalar < 0x80 {
    output.append(UInt8(scalar))
  } else if scalar < 0x800 {
    output.append(0xC0 | UInt8(scalar >> 6))
    output.append(0x80 | UInt8(scalar & 0x3F))
  } else if scalar < 0x10000 {
    output.append(0xE0 | UInt8(scalar >> 12))
    output.append(0x80 | UInt8(scalar >> 6 & 0x3F))
    output.append(0x80 | UInt8(scalar & 0x3F))
  } else {
    output.append(0xF0 | UInt8(scalar >> 18))
    output.append(0x80 | UInt8(scalar >> 12 & 0x3F))
    output.append(0x80 | UInt8(scalar >> 6 & 0x3F))
    output.append(0x80 | UInt8(scalar & 0x3F))
  }
}
