/// JSON printed again with a fixed order of members, for hashing and signing.
///
/// Both forms print numbers as ECMAScript does, strings with minimal escapes (lone surrogates as `\udXXX`, lower case),
/// no whitespace, and of duplicate members the last value only. Neither recurses; memory is 16 bytes for each object
/// and for each member, plus the output.
public enum CanonicalText {
  public enum Order: Sendable {
    /// RFC 8785: members by the UTF-16 code units of their names. A number that is not finite as a double is an error.
    case canonical
    /// JavaScript's JSON.stringify(JSON.parse(text)): integer-like names (0…4294967294) first, ascending, the others
    /// where they first stood. A number that is not finite prints as `null`.
    case signing
  }

  /// The most input bytes that can be put in order: offsets are kept in 32 bits.
  public static let inputBytesMax = Int(UInt32.max) - 1

  /// Validates `bytes` as one JSON text and appends it to `output` in the given order.
  /// - Parameter depthMax: most arrays and objects open at once.
  /// - Throws: the first problem; `output` is then as it was.
  public static func append(
    _ bytes: UnsafeRawBufferPointer, order: Order, to output: inout [UInt8], depthMax: Int = 512
  ) throws(JSONError) {
    guard bytes.count <= inputBytesMax else { throw JSONError(kind: .tooLarge, offset: 0, limit: inputBytesMax) }
    guard let cursor = JSONScanner(depthMax: depthMax).cursor(over: bytes) else {
      throw JSONError(kind: .unexpectedEnd, offset: 0)
    }
    var index = MemberIndex(order: order, cursor: cursor)
    try index.build()
    let formerCount = output.count
    output.reserveCapacity(formerCount + bytes.count)
    do throws(JSONError) {
      var printer = OrderedPrinter(index: index, order: order, cursor: cursor)
      try printer.print(to: &output)
    } catch {
      output.removeSubrange(formerCount...)
      throw error
    }
  }

  /// RFC 8785 text of a validated value, as a new array. See `append(_:order:to:depthMax:)`.
  public static func canonical(_ value: JSONSlice, depthMax: Int = 512) throws(JSONError) -> [UInt8] {
    var output: [UInt8] = []
    try append(value.bytes, order: .canonical, to: &output, depthMax: depthMax)
    return output
  }

  /// JSON.stringify text of a validated value, as a new array. See `append(_:order:to:depthMax:)`.
  public static func signing(_ value: JSONSlice, depthMax: Int = 512) throws(JSONError) -> [UInt8] {
    var output: [UInt8] = []
    try append(value.bytes, order: .signing, to: &output, depthMax: depthMax)
    return output
  }
}

/// First pass: validates, and lists the members of every object in the order they are to be printed.
struct MemberIndex {
  /// Offsets from the cursor's start.
  struct Member {
    var key: UInt32
    var value: UInt32
    /// How many objects start before the value: the index of the first object in it.
    var firstObject: UInt32
    /// Rank among the integer-like names, or `notAnIndex`. Only for the signing order.
    var arrayIndex: UInt32
  }

  /// In the order of their opening braces.
  struct Object {
    var firstMember: UInt32
    var memberCount: UInt32
    /// Just past the closing brace.
    var end: UInt32
    /// The index of the first object that starts after this one ends.
    var nextObject: UInt32
  }

  private struct Level {
    /// The object's index; negative for an array.
    var object: Int
    var pendingStart: Int
    var isFirst = true
  }

  static let notAnIndex = UInt32.max

  let order: CanonicalText.Order
  private var cursor: JSONCursor
  private(set) var members: [Member] = []
  private(set) var objects: [Object] = []
  /// Members of the objects that are still open, innermost last.
  private var pending: [Member] = []
  private var levels: [Level] = []

  init(order: CanonicalText.Order, cursor: JSONCursor) {
    self.order = order
    self.cursor = cursor
  }

  mutating func build() throws(JSONError) {
    cursor.skipWhitespace()
    guard walk(), cursor.finish() else { throw cursor.problem }
  }

  private mutating func walk() -> Bool {
    value: while true {
      guard cursor.next < cursor.end else {
        cursor.refuse(.unexpectedEnd, at: cursor.end)
        return false
      }
      let byte = cursor.next.pointee
      if byte == 0x7B || byte == 0x5B {
        guard cursor.open(depth: levels.count) else { return false }
        levels.append(Level(object: byte == 0x7B ? objects.count : -1, pendingStart: pending.count))
        if byte == 0x7B { objects.append(Object(firstMember: 0, memberCount: 0, end: 0, nextObject: 0)) }
      } else if cursor.value(depth: levels.count) == nil {
        return false
      }
      while let top = levels.last {
        var isFirst = top.isFirst
        var step: JSONCursor.Step
        if top.object >= 0 {
          var key: JSONSlice?
          step = cursor.stepMember(isFirst: &isFirst, key: &key)
          if step == .item, let key { note(key) }
        } else {
          step = cursor.stepElement(isFirst: &isFirst)
        }
        switch step {
        case .refused: return false
        case .item:
          levels[levels.count - 1].isFirst = false
          continue value
        case .end:
          levels.removeLast()
          if top.object >= 0 { close(top) }
        }
      }
      return true
    }
  }

  /// A name was just read; its value is next.
  private mutating func note(_ key: JSONSlice) {
    let keyStart = key.bytes.baseAddress.unsafelyUnwrapped - UnsafeRawPointer(cursor.start)
    pending.append(
      Member(
        key: UInt32(keyStart), value: UInt32(cursor.next - cursor.start), firstObject: UInt32(objects.count),
        arrayIndex: order == .signing ? arrayIndex(key.rawContent) : Self.notAnIndex))
  }

  private mutating func close(_ level: Level) {
    let count = pending.count - level.pendingStart
    if count > 1 { arrange(level.pendingStart) }
    let firstMember = members.count
    members.append(contentsOf: pending[level.pendingStart...])
    pending.removeSubrange(level.pendingStart...)
    objects[level.object] = Object(
      firstMember: UInt32(firstMember), memberCount: UInt32(members.count - firstMember),
      end: UInt32(cursor.next - cursor.start), nextObject: UInt32(objects.count))
  }

  /// Sorts the pending members from `start` on by name, drops all but the last value of equal names, and for the
  /// signing order sorts what is left by place.
  private mutating func arrange(_ start: Int) {
    let base = cursor.start
    let end = cursor.end
    pending.withUnsafeMutableBufferPointer { all in
      var tail = UnsafeMutableBufferPointer(rebasing: all[start...])
      tail.sort { left, right in
        let difference = UTF16Units.compare(
          content(at: base + Int(left.key), end: end), content(at: base + Int(right.key), end: end))
        return difference != 0 ? difference < 0 : left.key < right.key
      }
    }
    var kept = start
    for index in (start + 1)..<pending.count {
      let same =
        UTF16Units.compare(
          content(at: base + Int(pending[kept].key), end: end), content(at: base + Int(pending[index].key), end: end))
        == 0
      if same {
        // The first place, the last value.
        pending[kept].value = pending[index].value
        pending[kept].firstObject = pending[index].firstObject
      } else {
        kept += 1
        pending[kept] = pending[index]
      }
    }
    pending.removeSubrange((kept + 1)...)
    guard order == .signing else { return }
    pending.withUnsafeMutableBufferPointer { all in
      var tail = UnsafeMutableBufferPointer(rebasing: all[start...])
      tail.sort { left, right in
        left.arrayIndex != right.arrayIndex ? left.arrayIndex < right.arrayIndex : left.key < right.key
      }
    }
  }

  /// The value of a canonical decimal 0…4294967294, else `notAnIndex`, which sorts behind them all.
  private func arrayIndex(_ content: UnsafeRawBufferPointer) -> UInt32 {
    var units = UTF16Units(content)
    guard let first = units.next(), first >= 0x30, first <= 0x39 else { return Self.notAnIndex }
    var value = UInt64(first - 0x30)
    while let unit = units.next() {
      guard unit >= 0x30, unit <= 0x39, value > 0 else { return Self.notAnIndex }
      value = value * 10 + UInt64(unit - 0x30)
      guard value < UInt64(Self.notAnIndex) else { return Self.notAnIndex }
    }
    return UInt32(value)
  }
}

/// Second pass: prints text that the first pass validated, so it looks for the ends of things only.
struct OrderedPrinter {
  private struct Level {
    /// Index of the member being printed and the end of the object's members; both -1 for an array.
    var member: Int
    var memberEnd: Int
    var objectEnd: Int = 0
    var nextObject: Int = 0
  }

  private let index: MemberIndex
  private let order: CanonicalText.Order
  private var cursor: JSONCursor
  private var nextObject = 0
  private var levels: [Level] = []

  init(index: MemberIndex, order: CanonicalText.Order, cursor: JSONCursor) {
    self.index = index
    self.order = order
    self.cursor = cursor
  }

  mutating func print(to output: inout [UInt8]) throws(JSONError) {
    cursor.skipWhitespace()
    value: while true {
      switch cursor.next.pointee {
      case 0x7B:
        let object = index.objects[nextObject]
        output.append(0x7B)
        if object.memberCount > 0 {
          let first = Int(object.firstMember)
          levels.append(
            Level(
              member: first, memberEnd: first + Int(object.memberCount), objectEnd: Int(object.end),
              nextObject: Int(object.nextObject)))
          startMember(first, to: &output)
          continue value
        }
        output.append(0x7D)
        cursor.next = cursor.start + Int(object.end)
        nextObject = Int(object.nextObject)
      case 0x5B:
        output.append(0x5B)
        cursor.next += 1
        cursor.skipWhitespace()
        if cursor.next.pointee != 0x5D {
          levels.append(Level(member: -1, memberEnd: -1))
          continue value
        }
        output.append(0x5D)
        cursor.next += 1
      case 0x22: appendString(to: &output)
      case 0x2D, 0x30...0x39: try appendNumber(to: &output)
      case 0x66: appendLiteral(5, to: &output)
      default: appendLiteral(4, to: &output)
      }
      if try !stepOut(to: &output) { return }
    }
  }

  /// After a value: closes what ends here and moves to the next value. False at the end of the text.
  private mutating func stepOut(to output: inout [UInt8]) throws(JSONError) -> Bool {
    while let top = levels.last {
      if top.member >= 0 {
        if top.member + 1 < top.memberEnd {
          levels[levels.count - 1].member += 1
          output.append(0x2C)
          startMember(top.member + 1, to: &output)
          return true
        }
        output.append(0x7D)
        cursor.next = cursor.start + top.objectEnd
        nextObject = top.nextObject
      } else {
        cursor.skipWhitespace()
        let byte = cursor.next.pointee
        output.append(byte)
        cursor.next += 1
        if byte == 0x2C {
          cursor.skipWhitespace()
          return true
        }
      }
      levels.removeLast()
    }
    return false
  }

  private mutating func startMember(_ number: Int, to output: inout [UInt8]) {
    let member = index.members[number]
    cursor.next = cursor.start + Int(member.key)
    appendString(to: &output)
    output.append(0x3A)
    cursor.next = cursor.start + Int(member.value)
    nextObject = Int(member.firstObject)
  }

  private mutating func appendString(to output: inout [UInt8]) {
    let text = content(at: cursor.next, end: cursor.end)
    if let base = text.baseAddress?.assumingMemoryBound(to: UInt8.self) {
      let textEnd = base + text.count
      if firstBackslash(from: base, end: textEnd) == textEnd {
        output.append(contentsOf: UnsafeRawBufferPointer(start: cursor.next, count: text.count + 2))
      } else {
        JSONWriter.appendNormalized(content: text, to: &output)
      }
    }
    cursor.next += text.count + 2
  }

  private mutating func appendNumber(to output: inout [UInt8]) throws(JSONError) {
    let first = cursor.next
    while cursor.next < cursor.end, isNumberByte(cursor.next.pointee) { cursor.next += 1 }
    let text = UnsafeRawBufferPointer(start: first, count: cursor.next - first)
    if JSONNumber.appendReprinted(text, to: &output) { return }
    guard order == .signing else { throw JSONError(kind: .numberNotFinite, offset: first - cursor.start) }
    output.append(contentsOf: [0x6E, 0x75, 0x6C, 0x6C])
  }

  private mutating func appendLiteral(_ count: Int, to output: inout [UInt8]) {
    output.append(contentsOf: UnsafeBufferPointer(start: cursor.next, count: count))
    cursor.next += count
  }

  @inline(__always)
  private func isNumberByte(_ byte: UInt8) -> Bool {
    isDigit(byte) || byte == 0x2D || byte == 0x2B || byte == 0x2E || byte | 0x20 == 0x65
  }
}

/// What lies between the quotes of the validated string whose opening quote is at `quote`.
func content(at quote: UnsafePointer<UInt8>, end: UnsafePointer<UInt8>) -> UnsafeRawBufferPointer {
  var place = quote + 1
  while place < end {
    if end - place >= 8 {
      let stops = wordBytesThatEndARun(loadWord(place)) & ~(loadWord(place) & 0x8080_8080_8080_8080)
      if stops == 0 {
        place += 8
        continue
      }
      place += stops.trailingZeroBitCount &>> 3
    }
    let byte = place.pointee
    if byte == 0x22 { break }
    place += byte == 0x5C ? 2 : 1
  }
  return UnsafeRawBufferPointer(start: quote + 1, count: place - quote - 1)
}
