import Testing

@testable import JSONText

@Suite struct ScannerProblems {
  @Test(arguments: [
    ("", JSONError.Kind.unexpectedEnd, 0), ("  ", .unexpectedEnd, 2), ("{", .unexpectedEnd, 1),
    ("[1,]", .valueExpected, 3), ("{\"a\":1,}", .keyExpected, 7), ("{a:1}", .keyExpected, 1),
    ("{\"a\" 1}", .colonExpected, 5), ("{\"a\":1 2}", .commaOrBraceExpected, 7), ("[1 2]", .commaOrBracketExpected, 3),
    ("trUe", .invalidLiteral, 2), ("tru", .unexpectedEnd, 3), ("01", .invalidNumber, 1), ("-", .unexpectedEnd, 1),
    ("-x", .invalidNumber, 1), ("1.", .unexpectedEnd, 2), ("1.x", .invalidNumber, 2), ("1e+", .unexpectedEnd, 3),
    ("\"\\x\"", .invalidEscape, 1), ("\"\\u12g4\"", .invalidEscape, 1), ("\"\\u12", .unexpectedEnd, 5),
    ("\"a\nb\"", .controlCharacterInString, 2), ("\"abcdefghijklm\u{1}\"", .controlCharacterInString, 14),
    ("\"abc", .unexpectedEnd, 4), ("\"abc\\", .unexpectedEnd, 5), ("1 2", .trailingBytes, 2), ("é", .valueExpected, 0),
    ("[}", .valueExpected, 1), ("[[]", .unexpectedEnd, 3),
  ])
  func kindAndPlace(_ text: String, _ kind: JSONError.Kind, _ offset: Int) {
    #expect(problem(text) == JSONError(kind: kind, offset: offset))
  }

  @Test func sentencesSayWhereAndNeverQuote() {
    let found = problem("{\"password\":hunter2}")
    #expect(found?.description == "The JSON text needs a value at byte 12.")
    #expect(problem("[[[", JSONScanner(depthMax: 2))?.description.contains("deeper than 2 levels at byte 2") == true)
  }

  @Test func invalidUTF8AtEveryPlaceOfAWord() {
    let bad: [[UInt8]] = [
      [0x80], [0xC0, 0x80], [0xC1, 0xBF], [0xE0, 0x9F, 0xBF], [0xED, 0xA0, 0x80], [0xF0, 0x8F, 0xBF, 0xBF],
      [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xC3], [0xE2, 0x82], [0xF0, 0x9F, 0x98], [0xFF],
    ]
    for sequence in bad {
      for before in 0..<17 {
        let text = [0x22] + [UInt8](repeating: 0x61, count: before) + sequence + [0x22]
        #expect(problem(text) == JSONError(kind: .invalidUTF8, offset: 1 + before))
        #expect(problem([0x22] + [UInt8](repeating: 0x61, count: before) + sequence)?.kind == .invalidUTF8)
      }
    }
    #expect(problem("\"\u{80}\u{7FF}\u{800}\u{D7FF}\u{E000}\u{FFFF}\u{10000}\u{10FFFF}\"") == nil)
  }

  @Test func stopBytesAtEveryPlaceOfAWord() {
    for length in 0..<40 {
      let run = String(repeating: "x", count: length)
      #expect(problem("\"\(run)\"") == nil)
      #expect(problem("\"\(run)\\n\(run)\"") == nil)
      #expect(problem("\"\(run)é\(run)\"") == nil)
      #expect(problem("\"\(run)\u{7F}\(run)\"") == nil)
      #expect(problem("\"\(run)\u{1F}\"")?.offset == length + 1)
    }
  }

  @Test func byteOrderMark() {
    let marked: [UInt8] = [0xEF, 0xBB, 0xBF, 0x5B, 0x5D]
    #expect(problem(marked) == nil)
    #expect(problem(marked, JSONScanner(acceptsByteOrderMark: false)) == JSONError(kind: .valueExpected, offset: 0))
    #expect(problem([0xEF, 0xBB, 0xBF] + marked)?.kind == .valueExpected)
    #expect(problem([0xEF, 0xBB, 0xBF])?.kind == .unexpectedEnd)
  }

  @Test func emptyBufferWithoutAnAddress() {
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    guard case .failure(let error) = JSONScanner().scan(nothing) else {
      Issue.record("nothing was accepted")
      return
    }
    #expect(error.kind == .unexpectedEnd)
  }
}

@Suite struct Bounds {
  static func nested(_ depth: Int, open: String, close: String, inner: String = "") -> [UInt8] {
    Array((String(repeating: open, count: depth) + inner + String(repeating: close, count: depth)).utf8)
  }

  @Test func depthLimitIsExact() {
    #expect(problem(Self.nested(512, open: "[", close: "]")) == nil)
    #expect(problem(Self.nested(513, open: "[", close: "]")) == JSONError(kind: .tooDeep, offset: 512, limit: 512))
    #expect(problem("1", JSONScanner(depthMax: 0)) == nil)
    #expect(problem("[]", JSONScanner(depthMax: 0))?.kind == .tooDeep)
  }

  @Test func aHundredThousandLevels() throws {
    let scanner = JSONScanner(depthMax: 100_000)
    let arrays = Self.nested(100_000, open: "[", close: "]")
    let objects = Self.nested(100_000, open: "{\"a\":", close: "}", inner: "1")
    let mixed = Self.nested(50_000, open: "[{\"\":", close: "}]", inner: "null")
    for text in [arrays, objects, mixed] {
      #expect(problem(text, scanner) == nil)
      #expect(problem(text)?.kind == .tooDeep)
      #expect(problem(Array(text.dropLast()), scanner)?.kind == .unexpectedEnd)
      #expect(problem(text + [0x5D], scanner)?.kind == .trailingBytes)
      #expect(try ordered(text, .canonical, depthMax: 100_000) == text)
      #expect(try ordered(text, .signing, depthMax: 100_000) == text)
      #expect(throws: JSONError.self) { try ordered(text, .canonical) }
    }
    // A closing byte of the wrong kind far below the first 64 levels.
    var wrong = arrays
    wrong[150_000] = 0x7D
    #expect(problem(wrong, scanner) == JSONError(kind: .commaOrBracketExpected, offset: 150_000))
  }

  @Test func theMessageScanCountsItsOwnLevels() {
    func rejection(_ text: String, _ depthMax: Int) -> ReceiveRejection? {
      Array(text.utf8).withUnsafeBytes {
        if case .failure(let found) = JSONScanner(depthMax: depthMax).scanMessage($0) { return found }
        return nil
      }
    }
    let body = "{\"tx\":[\"u\",{\"a\":[1]}]}"
    #expect(rejection(body, 4) == nil)
    #expect(rejection(body, 3) == .tooDeep(JSONError(kind: .tooDeep, offset: 16, limit: 3)))
    #expect(rejection(body, 2) == .tooDeep(JSONError(kind: .tooDeep, offset: 11, limit: 2)))
    #expect(rejection(body, 1) == .tooDeep(JSONError(kind: .tooDeep, offset: 6, limit: 1)))
    #expect(rejection(body, 0) == .tooDeep(JSONError(kind: .tooDeep, offset: 0, limit: 0)))
  }

  @Test(.timeLimit(.minutes(1))) func tenMegabytesOfDigits() throws {
    let digits = [UInt8](repeating: 0x37, count: 10_000_000)
    #expect(problem(digits) == nil)
    #expect(throws: JSONError(kind: .numberNotFinite, offset: 0)) { try ordered(digits, .canonical) }
    #expect(try ordered(digits, .signing) == Array("null".utf8))
    let fraction = Array("0.".utf8) + [UInt8](repeating: 0x33, count: 10_000_000)
    #expect(try ordered(fraction, .canonical) == Array("0.3333333333333333".utf8))
    let shifted = Array("0.".utf8) + [UInt8](repeating: 0x30, count: 5_000_000) + Array("15e5000001".utf8)
    #expect(try ordered(shifted, .canonical) == Array("1.5".utf8))
    let exponent = Array("1e".utf8) + digits
    #expect(try ordered(exponent, .signing) == Array("null".utf8))
    #expect(try ordered(Array("1e-".utf8) + digits, .canonical) == Array("0".utf8))
  }

  @Test(.timeLimit(.minutes(1))) func manyMembersWithLongCommonNames() throws {
    var text = "{"
    for index in 0..<20_000 {
      text += "\"\(String(repeating: "k", count: 50))\(19_999 - index)\":\(index),"
    }
    text += "\"z\":0}"
    let canonical = try ordered(text, .canonical)
    #expect(try ordered(canonical, .canonical) == canonical)
    #expect(canonical.utf8.count == text.utf8.count)
    #expect(try ordered(text, .signing) == text)
  }
}
