import Testing

@testable import JSONText

/// Seeded: the same texts each run. The judge is ReferenceParser, which shares no code with the library.
@Suite struct Fuzz {
  static let pieces: [String] = [
    "{", "}", "[", "]", ":", ",", "\"", "\\", " ", "\n", "1", "0", "-", ".", "e", "E+", "true", "false", "null", "é",
    "😀",
    "\"tx\"", "\"uris\"", "\\u00", "\\ud83d", "\\ude00", "\u{1}", "\u{7f}", "\u{FEFF}", "\"payload\"",
  ]

  private func text(_ generator: inout SeededGenerator, depth: Int) -> String {
    func space() -> String { [" ", "\n", "\t ", "", "", "", "", ""].randomElement(using: &generator) ?? "" }
    let names = [
      "a", "b", "10", "9", "tx", "é", "\\u00e9", "\\ud83d", "😀", "", "\\n", "payload", "longer name of a member",
    ]
    let numbers = ["0", "-0", "1.50", "1e3", "12345678901234567890", "1E-7", "-1e400", "0.1", "123", "3e20"]
    switch Int.random(in: 0..<(depth > 4 ? 4 : 8), using: &generator) {
    case 0: return numbers.randomElement(using: &generator) ?? "0"
    case 1, 2: return "\"" + (names.randomElement(using: &generator) ?? "") + "\""
    case 3: return ["true", "false", "null"].randomElement(using: &generator) ?? "null"
    case 4, 5:
      let list = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
        space() + text(&generator, depth: depth + 1) + space()
      }
      return "[" + list.joined(separator: ",") + "]"
    default:
      let list = (0..<Int.random(in: 0...5, using: &generator)).map { _ in
        space() + "\"" + (names.randomElement(using: &generator) ?? "") + "\"" + space() + ":" + space()
          + text(&generator, depth: depth + 1) + space()
      }
      return "{" + list.joined(separator: ",") + "}"
    }
  }

  /// Everything the library says about a text against what the reference says.
  private func judge(_ bytes: [UInt8]) throws -> Bool {
    let reference = ReferenceParser.parse(bytes)
    let found = problem(bytes)
    try #require((found == nil) == (reference != nil), "\(String(decoding: bytes, as: UTF8.self)): \(found as Any)")
    if let found { try #require(found.offset >= 0 && found.offset <= bytes.count) }
    let isUTF8 = String(validating: bytes, as: UTF8.self) != nil
    if isUTF8 { try #require(found?.kind != .invalidUTF8) }
    try bytes.withUnsafeBytes { buffer in
      let message = JSONScanner().scanMessage(buffer)
      let list = JSONScanner().scanURIs(buffer, countMax: 2)
      switch message {
      case .success: try #require(reference != nil)
      case .failure(.notAMessage): try #require(reference != nil || bytes.isEmpty)
      case .failure(.uriRequired): try #require(reference != nil)
      case .failure(.malformed(let error)), .failure(.invalidUTF8(let error)), .failure(.tooDeep(let error)):
        try #require(error == found)
      }
      if case .failure(.malformed(let error)) = list { try #require(error == found) }
      if case .success = list { try #require(reference != nil) }
    }
    let canonical = try? ordered(bytes, .canonical)
    let signing = try? ordered(bytes, .signing)
    guard let reference else {
      try #require(canonical == nil && signing == nil)
      return false
    }
    func number(_ value: Double) -> String {
      var output: [UInt8] = []
      JSONNumber.append(value, to: &output)
      return String(decoding: output, as: UTF8.self)
    }
    try #require(signing == Array(reference.printed(false, number: number).utf8))
    if reference.hasInfinity {
      try #require(canonical == nil)
    } else {
      try #require(canonical == Array(reference.printed(true, number: number).utf8))
      if let canonical { try #require(try ordered(canonical, .canonical) == canonical) }
    }
    return true
  }

  @Test func validTexts() throws {
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<3_000 {
      let json = text(&generator, depth: 0)
      #expect(try judge(Array(json.utf8)), "\(json)")
    }
  }

  @Test func mutatedTexts() throws {
    var generator = SeededGenerator(seed: 2)
    var accepted = 0
    for _ in 0..<10_000 {
      var bytes = Array(text(&generator, depth: 2).utf8)
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let place = Int.random(in: 0...bytes.count, using: &generator)
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: if place < bytes.count { bytes.remove(at: place) }
        case 1: if place < bytes.count { bytes[place] = UInt8.random(in: 0...255, using: &generator) }
        case 2: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
        case 3: bytes.insert(contentsOf: (Self.pieces.randomElement(using: &generator) ?? "").utf8, at: place)
        default: bytes.removeSubrange(place...)
        }
      }
      if try judge(bytes) { accepted += 1 }
    }
    // Both sides of the line must have been visited for the comparison to mean something.
    #expect(accepted > 500 && accepted < 9_500)
  }

  @Test func soupOfTokensAndBytes() throws {
    var generator = SeededGenerator(seed: 4)
    for round in 0..<20_000 {
      var bytes: [UInt8] = []
      for _ in 0..<Int.random(in: 0...12, using: &generator) {
        if round % 4 == 0 {
          bytes.append(UInt8.random(in: 0...255, using: &generator))
        } else {
          bytes += Array((Self.pieces.randomElement(using: &generator) ?? "").utf8)
        }
      }
      _ = try judge(bytes)
    }
  }

  /// Long strings with something odd somewhere: what the eight-byte steps could step over.
  @Test func oddBytesInLongStrings() throws {
    var generator = SeededGenerator(seed: 6)
    for _ in 0..<5_000 {
      var bytes = [UInt8](repeating: 0x61, count: Int.random(in: 1...64, using: &generator))
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] =
          [0x22, 0x5C, 0x1F, 0x20, 0x7F, 0x80, 0xC3, 0xA9, 0xFF, 0x21, 0x23, 0x5B, 0x5D, 0xA2, 0xDC]
          .randomElement(using: &generator) ?? 0
      }
      _ = try judge([0x22] + bytes + [0x22])
    }
  }

  /// A slice whose buffer was cut short or changed must end quietly, never read outside.
  @Test func walkingChangedBytes() throws {
    var generator = SeededGenerator(seed: 8)
    for _ in 0..<2_000 {
      var bytes = Array(text(&generator, depth: 0).utf8)
      bytes.withUnsafeMutableBytes { buffer in
        guard case .success(let value) = JSONScanner().scan(UnsafeRawBufferPointer(buffer)) else { return }
        buffer[Int.random(in: 0..<buffer.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
        var visited = 0
        for (_, inner) in value.members { visited += inner.bytes.count }
        for inner in value.elements { visited += inner.bytes.count }
        #expect(visited <= buffer.count)
      }
    }
  }
}
