/// The strict reader under everything here: RFC 8259, one pass, no recursion, never a read past `end`.
///
/// It holds raw pointers into the caller's buffer and must not outlive the call that made it. Pointer arithmetic stays
/// within `start...end` by the guards before every read.
struct JSONCursor {
  let start: UnsafePointer<UInt8>
  let end: UnsafePointer<UInt8>
  var next: UnsafePointer<UInt8>
  let depthMax: Int
  /// Set once, by the first problem; every method that failed has set it.
  var error: JSONError?

  init(start: UnsafePointer<UInt8>, count: Int, depthMax: Int) {
    self.start = start
    self.end = start + count
    self.next = start
    self.depthMax = depthMax
  }

  enum StringForm { case refused, plain, escaped }
  enum Step { case item, end, refused }

  // MARK: Problems

  @inline(never)
  mutating func refuse(_ kind: JSONError.Kind, at place: UnsafePointer<UInt8>) {
    guard error == nil else { return }
    var kind = kind
    if place == end {
      kind = .unexpectedEnd
    } else if place.pointee >= 0x80, utf8Length(at: place) == 0 {
      // Text in another encoding usually trips over the grammar first; the encoding is what its sender must know.
      kind = .invalidUTF8
    }
    error = JSONError(kind: kind, offset: place - start, limit: kind == .tooDeep ? depthMax : 0)
  }

  // MARK: Bytes

  @inline(__always)
  mutating func skipWhitespace() {
    while next < end {
      let byte = next.pointee
      if byte > 0x20 { return }
      guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
      next += 1
    }
  }

  mutating func skipByteOrderMark() {
    if end - next >= 3, next[0] == 0xEF, next[1] == 0xBB, next[2] == 0xBF { next += 3 }
  }

  /// The length of the well-formed UTF-8 sequence at `place`, which is below `end`; 0 when it is malformed.
  func utf8Length(at place: UnsafePointer<UInt8>) -> Int {
    let left = end - place
    let lead = place[0]
    if lead < 0x80 { return 1 }
    if lead < 0xC2 { return 0 }
    if lead < 0xE0 {
      return left >= 2 && place[1] & 0xC0 == 0x80 ? 2 : 0
    }
    if lead < 0xF0 {
      guard left >= 3, place[1] & 0xC0 == 0x80, place[2] & 0xC0 == 0x80 else { return 0 }
      if lead == 0xE0, place[1] < 0xA0 { return 0 }
      if lead == 0xED, place[1] > 0x9F { return 0 }
      return 3
    }
    guard lead < 0xF5, left >= 4, place[1] & 0xC0 == 0x80, place[2] & 0xC0 == 0x80, place[3] & 0xC0 == 0x80
    else { return 0 }
    if lead == 0xF0, place[1] < 0x90 { return 0 }
    if lead == 0xF4, place[1] > 0x8F { return 0 }
    return 4
  }

  // MARK: Scalars

  /// `next` is at the opening quote; afterwards it is past the closing one.
  mutating func skipString() -> StringForm {
    var place = next + 1
    var form = StringForm.plain
    while true {
      if end - place >= 8 {
        let stops = wordBytesThatEndARun(loadWord(place))
        if stops == 0 {
          place += 8
          continue
        }
        place += stops.trailingZeroBitCount &>> 3
      } else if place == end {
        refuse(.unexpectedEnd, at: place)
        return .refused
      }
      let byte = place.pointee
      if byte == 0x22 {
        next = place + 1
        return form
      } else if byte == 0x5C {
        let length = escapeLength(at: place)
        guard length > 0 else { return .refused }
        form = .escaped
        place += length
      } else if byte < 0x20 {
        refuse(.controlCharacterInString, at: place)
        return .refused
      } else if byte < 0x80 {
        place += 1
      } else {
        repeat {
          let length = utf8Length(at: place)
          guard length > 0 else {
            refuse(.invalidUTF8, at: place)
            return .refused
          }
          place += length
        } while place < end && place.pointee >= 0x80
      }
    }
  }

  /// The length of the escape at `place`, or 0 after refusing it. Lone surrogates pass, as in JavaScript.
  private mutating func escapeLength(at place: UnsafePointer<UInt8>) -> Int {
    guard end - place >= 2 else {
      refuse(.unexpectedEnd, at: end)
      return 0
    }
    switch place[1] {
    case 0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74: return 2
    case 0x75:
      var index = 2
      while index < 6 {
        guard place + index < end else {
          refuse(.unexpectedEnd, at: end)
          return 0
        }
        guard hexValue(place[index]) < 16 else {
          refuse(.invalidEscape, at: place[index] >= 0x80 ? place + index : place)
          return 0
        }
        index += 1
      }
      return 6
    default:
      refuse(.invalidEscape, at: place[1] >= 0x80 ? place + 1 : place)
      return 0
    }
  }

  private mutating func skipNumber() -> Bool {
    var place = next
    if place.pointee == 0x2D { place += 1 }
    guard place < end, isDigit(place.pointee) else {
      refuse(.invalidNumber, at: place)
      return false
    }
    if place.pointee == 0x30 {
      place += 1
    } else {
      skipDigits(&place)
    }
    if place < end, place.pointee == 0x2E {
      place += 1
      guard place < end, isDigit(place.pointee) else {
        refuse(.invalidNumber, at: place)
        return false
      }
      skipDigits(&place)
    }
    if place < end, place.pointee | 0x20 == 0x65 {
      place += 1
      if place < end, place.pointee == 0x2B || place.pointee == 0x2D { place += 1 }
      guard place < end, isDigit(place.pointee) else {
        refuse(.invalidNumber, at: place)
        return false
      }
      skipDigits(&place)
    }
    // "01" and the like: better called a bad number than a missing comma.
    if place < end, isDigit(place.pointee) {
      refuse(.invalidNumber, at: place)
      return false
    }
    next = place
    return true
  }

  @inline(__always)
  private func skipDigits(_ place: inout UnsafePointer<UInt8>) {
    while place < end, isDigit(place.pointee) { place += 1 }
  }

  private mutating func skipLiteral(_ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    var index = 0
    while index < count {
      guard next + index < end, next[index] == word.utf8Start[index] else {
        refuse(.invalidLiteral, at: next + index)
        return false
      }
      index += 1
    }
    next += count
    return true
  }

  // MARK: Values

  /// Reads one whole value at `next` (whitespace before it already skipped). `depth` is the number of arrays and
  /// objects that are open around it. Nil after refusing.
  @inline(__always)
  mutating func value(depth: Int) -> JSONSlice? {
    let first = next
    guard first < end else {
      refuse(.unexpectedEnd, at: end)
      return nil
    }
    var kind = JSONKind.number
    switch first.pointee {
    case 0x22:
      let form = skipString()
      if form == .refused { return nil }
      return slice(from: first, kind: .string, hasEscapes: form == .escaped)
    case 0x7B:
      kind = .object
      guard skipContainer(depth: depth) else { return nil }
    case 0x5B:
      kind = .array
      guard skipContainer(depth: depth) else { return nil }
    default:
      guard skipBareScalar(&kind) else { return nil }
    }
    return slice(from: first, kind: kind, hasEscapes: false)
  }

  @inline(__always)
  func slice(from first: UnsafePointer<UInt8>, kind: JSONKind, hasEscapes: Bool) -> JSONSlice {
    JSONSlice(
      kind: kind, hasEscapes: hasEscapes, bytes: UnsafeRawBufferPointer(start: first, count: next - first))
  }

  /// A number or a literal at `next`, which is below `end`.
  @inline(__always)
  mutating func skipBareScalar(_ kind: inout JSONKind) -> Bool {
    switch next.pointee {
    case 0x2D, 0x30...0x39:
      kind = .number
      return skipNumber()
    case 0x74:
      kind = .true
      return skipLiteral("true")
    case 0x66:
      kind = .false
      return skipLiteral("false")
    case 0x6E:
      kind = .null
      return skipLiteral("null")
    default:
      refuse(.valueExpected, at: next)
      return false
    }
  }

  /// Skips the array or object at `next`. Which of the two each open level is takes one bit: 64 levels live in a word,
  /// deeper ones spill into an array, so the input decides neither the stack nor (in usual text) the heap.
  private mutating func skipContainer(depth outerDepth: Int) -> Bool {
    var levels: UInt64 = 0
    var spilled: [UInt64] = []
    var depth = 0
    value: while true {
      guard next < end else {
        refuse(.unexpectedEnd, at: end)
        return false
      }
      let byte = next.pointee
      if byte == 0x22 {
        if skipString() == .refused { return false }
      } else if byte == 0x7B || byte == 0x5B {
        guard outerDepth + depth < depthMax else {
          refuse(.tooDeep, at: next)
          return false
        }
        if depth & 63 == 0, depth > 0 { spilled.append(levels) }
        levels = levels &<< 1 | (byte == 0x7B ? 1 : 0)
        depth += 1
        next += 1
        skipWhitespace()
        // `{` + 2 is `}`, `[` + 2 is `]`.
        if next < end, next.pointee == byte + 2 {
          next += 1
          depth -= 1
          levels &>>= 1
          if depth & 63 == 0, depth > 0 { levels = spilled.removeLast() }
        } else {
          if byte == 0x7B, !skipKeyAndColon() { return false }
          continue value
        }
      } else {
        var kind = JSONKind.number
        guard skipBareScalar(&kind) else { return false }
      }
      while true {
        if depth == 0 { return true }
        skipWhitespace()
        let isObject = levels & 1 == 1
        guard next < end else {
          refuse(.unexpectedEnd, at: end)
          return false
        }
        let byte = next.pointee
        if byte == 0x2C {
          next += 1
          skipWhitespace()
          if isObject, !skipKeyAndColon() { return false }
          continue value
        }
        guard byte == (isObject ? 0x7D : 0x5D) else {
          refuse(isObject ? .commaOrBraceExpected : .commaOrBracketExpected, at: next)
          return false
        }
        next += 1
        depth -= 1
        levels &>>= 1
        if depth & 63 == 0, depth > 0 { levels = spilled.removeLast() }
      }
    }
  }

  @inline(__always)
  mutating func skipKeyAndColon() -> Bool {
    guard next < end, next.pointee == 0x22 else {
      refuse(.keyExpected, at: next)
      return false
    }
    if skipString() == .refused { return false }
    return skipColon()
  }

  @inline(__always)
  mutating func skipColon() -> Bool {
    skipWhitespace()
    guard next < end, next.pointee == 0x3A else {
      refuse(.colonExpected, at: next)
      return false
    }
    next += 1
    skipWhitespace()
    return true
  }

  // MARK: One level at a time

  /// Steps over the opening byte at `next`.
  mutating func open(depth: Int) -> Bool {
    guard depth < depthMax else {
      refuse(.tooDeep, at: next)
      return false
    }
    next += 1
    return true
  }

  /// Before each element of an open array: steps over the comma, or the closing bracket.
  @inline(__always)
  mutating func stepElement(isFirst: inout Bool) -> Step {
    stepItem(isFirst: &isFirst, close: 0x5D, kind: .commaOrBracketExpected)
  }

  /// Before each member of an open object: as `stepElement`, and then over the name and the colon.
  @inline(__always)
  mutating func stepMember(isFirst: inout Bool, key: inout JSONSlice?) -> Step {
    let step = stepItem(isFirst: &isFirst, close: 0x7D, kind: .commaOrBraceExpected)
    guard step == .item else { return step }
    guard next < end, next.pointee == 0x22 else {
      refuse(.keyExpected, at: next)
      return .refused
    }
    let first = next
    let form = skipString()
    if form == .refused { return .refused }
    key = slice(from: first, kind: .string, hasEscapes: form == .escaped)
    return skipColon() ? .item : .refused
  }

  @inline(__always)
  private mutating func stepItem(isFirst: inout Bool, close: UInt8, kind: JSONError.Kind) -> Step {
    skipWhitespace()
    guard next < end else {
      refuse(.unexpectedEnd, at: end)
      return .refused
    }
    if next.pointee == close {
      next += 1
      return .end
    }
    if isFirst {
      isFirst = false
      return .item
    }
    guard next.pointee == 0x2C else {
      refuse(kind, at: next)
      return .refused
    }
    next += 1
    skipWhitespace()
    return .item
  }

  /// Nothing but whitespace may be left.
  mutating func finish() -> Bool {
    skipWhitespace()
    if next == end { return true }
    refuse(.trailingBytes, at: next)
    return false
  }
}

// MARK: - Eight bytes at a time

@inline(__always)
func loadWord(_ place: UnsafePointer<UInt8>) -> UInt64 {
  UInt64(littleEndian: UnsafeRawPointer(place).loadUnaligned(as: UInt64.self))
}

/// The high bit of each byte that is a quote, a backslash, a control character or not ASCII. Bits above the lowest one
/// may be false alarms (borrows travel upwards); the lowest is exact.
@inline(__always)
func wordBytesThatEndARun(_ word: UInt64) -> UInt64 {
  let ones: UInt64 = 0x0101_0101_0101_0101
  let quotes = word ^ (ones &* 0x22)
  let backslashes = word ^ (ones &* 0x5C)
  let found = (quotes &- ones) & ~quotes | (backslashes &- ones) & ~backslashes | (word &- ones &* 0x20) | word
  return found & (ones &* 0x80)
}

@inline(__always)
func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

/// 0...15, or 255 for a byte that is no hexadecimal digit.
@inline(__always)
func hexValue(_ byte: UInt8) -> UInt8 {
  if isDigit(byte) { return byte &- 0x30 }
  let letter = (byte | 0x20) &- 0x61
  return letter < 6 ? letter + 10 : 255
}
