import Testing
import URIText

/// SplitMix64, so that a failure can be repeated.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

@Suite struct NormaliseFuzzTests {
  private static let pieces: [[UInt8]] =
    [
      "mutable://", "http://", "file:", "ws:/", "hash:", "open", "a", "B", "/", "//", "\\", ".", "..", "%2e", "%2E%2e",
      "%2F", "%", "%zz", "%c3", ":", ":80", "@", "?", "#", "[", "]", "[::1]", "[1:2::1.2.3.4]", "1.2", "0x7f", " ",
      "\t", "\n", "é", "\u{0}", "\u{7F}", "\u{FFFD}", "😀", "|", "C|", "C:", "^", "`", "{", "\"", "<", "localhost",
    ].map { Array($0.utf8) } + [[0xFF], [0xC3], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xC0, 0x80]]

  private static let canary: UInt8 = 0xA5

  /// Normalises into a buffer with guard bytes on both sides.
  private func normalise(_ input: [UInt8], capacity: Int) -> (outcome: URIText.Outcome, written: [UInt8]) {
    var memory = [UInt8](repeating: Self.canary, count: capacity + 32)
    return memory.withUnsafeMutableBufferPointer { memory in
      let scratch = UnsafeMutableBufferPointer(rebasing: memory[16..<(16 + capacity)])
      let outcome = input.withUnsafeBufferPointer { URIText.normalise($0, into: scratch) }
      let isIntact =
        memory[..<16].allSatisfy { $0 == Self.canary } && memory[(16 + capacity)...].allSatisfy { $0 == Self.canary }
      #expect(isIntact, "\(input)")
      if case .written(let length, _) = outcome { return (outcome, Array(scratch[..<length])) }
      return (outcome, [])
    }
  }

  @Test func normalFormsAreFixedPointsAndBuffersAreNeverOverrun() {
    var generator = SeededGenerator(state: 20_250_101)
    var counts = (valid: 0, invalid: 0, tooLong: 0)
    for _ in 0..<60_000 {
      var input: [UInt8] = Bool.random(using: &generator) ? Array("mutable://open/".utf8) : []
      for _ in 0..<Int.random(in: 0...9, using: &generator) {
        input += Self.pieces.randomElement(using: &generator)!
      }
      if Int.random(in: 0..<8, using: &generator) == 0, !input.isEmpty {
        input[Int.random(in: 0..<input.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      let (outcome, written) = normalise(input, capacity: URIText.scratchBytes(forInputBytes: input.count))
      let small = normalise(input, capacity: Int.random(in: 0...20, using: &generator))
      if small.outcome != .tooLong {
        #expect(small.outcome == outcome && small.written == written, "\(input)")
      } else {
        counts.tooLong += 1
      }
      let normal: [UInt8]
      let programLength: Int
      switch outcome {
      case .invalid:
        counts.invalid += 1
        continue
      case .tooLong:
        Issue.record("too long in a buffer of the promised size: \(input)")
        continue
      case .unchanged(let length): (normal, programLength) = (input, length)
      case .written(_, let length): (normal, programLength) = (written, length)
      }
      counts.valid += 1
      #expect(String(validating: input, as: UTF8.self) != nil, "\(input)")
      #expect(normal.allSatisfy { $0 > 0x20 && $0 < 0x7F }, "\(input)")
      #expect(programLength <= normal.count && (normal.count == programLength || normal[programLength] == 0x2F))
      let again = normalise(normal, capacity: URIText.scratchBytes(forInputBytes: normal.count))
      #expect(again.outcome == .unchanged(programLength: programLength), "\(String(decoding: input, as: UTF8.self))")
    }
    #expect(counts.valid > 10_000 && counts.invalid > 10_000 && counts.tooLong > 1_000, "\(counts)")
  }

  @Test func everyInvalidSequenceOfTwoBytesIsRefused() {
    for first in UInt8(0x80)...0xFF {
      for second in UInt8(0)...0xFF {
        let input = Array("mutable://open/x#".utf8) + [first, second]
        let isText = String(validating: input, as: UTF8.self) != nil
        #expect((normalise(input, capacity: 256).outcome == .invalid) == !isText)
      }
    }
  }
}
