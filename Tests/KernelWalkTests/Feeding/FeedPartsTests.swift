import BackplaneABI
import Testing

@testable import Kernel

/// The ring and the index by themselves.
struct FeedPartsTests {
  private func record(_ uri: String, _ text: String = "", dataSizeMax: Int = 1 << 20) -> FeedRecord {
    var (uri, text) = (uri, text)
    return uri.withUTF8 { uri in
      text.withUTF8 { text in
        var op = bp_op()
        op.uri = bp_view(uri)
        op.data = bp_view(text)
        return FeedRecord(op, timestampMs: 1, version: 2, dataSizeMax: dataSizeMax)
      }
    }
  }

  @Test func theRingHoldsTheNewestThatItsBoundsAllow() {
    var ring = FeedRing(after: 41)
    var settings = FeedSettings(recordsMax: 1000)
    #expect(ring.oldest == 42 && ring.newest == 41 && ring.holds(after: 41) && !ring.holds(after: 40))
    #expect(ring.records(from: 42, max: 10).isEmpty)
    for number in 0..<5000 { ring.append(record("a://b/\(number)"), settings) }
    #expect(ring.count == 1000 && ring.newest == 5041 && ring.oldest == 4042)
    #expect(ring.holds(after: 4041) && !ring.holds(after: 4040) && ring.holds(after: 5041) && !ring.holds(after: 5042))
    let some = ring.records(from: 5000, max: 100)
    #expect(some.map(\.position) == Array(5000...5041))
    #expect(some.map { String(decoding: $0.uri, as: UTF8.self) } == (4958...4999).map { "a://b/\($0)" })
    #expect(ring[4041] == nil && ring[4042]?.position == 4042 && ring[5042] == nil)
    settings.recordsMax = 10
    ring.trim(settings)
    #expect(ring.count == 10 && ring.sizeBytes == 10 * (FeedRecord.overheadBytes + 10))
    settings = FeedSettings(sizeBytesMax: 3 * (FeedRecord.overheadBytes + 10))
    ring.trim(settings)
    #expect(ring.count == 3)
    // The newest is kept whatever it takes.
    settings.sizeBytesMax = 100
    ring.append(record("a://b/c", String(repeating: "x", count: 1000)), settings)
    #expect(ring.count == 1 && ring.newest == 5042)
  }

  @Test func largeDataIsLeftOut() {
    record("a://b", "12345", dataSizeMax: 4).withItems(epoch: 9) { whole, bare in
      for chunk in [whole, bare] {
        let item = UnsafeRawPointer(chunk).assumingMemoryBound(to: bp_feed_item.self).pointee
        #expect(item.flags == BP_FEED_NO_DATA && item.data.size == 0 && item.uri.text == "a://b" && item.epoch == 9)
      }
    }
    record("a://b", "1234", dataSizeMax: 4).withItems(epoch: 9) { whole, bare in
      let item = UnsafeRawPointer(whole).assumingMemoryBound(to: bp_feed_item.self).pointee
      #expect(item.flags == 0 && item.data.text == "1234" && item.chunk.count == 1)
      let without = UnsafeRawPointer(bare).assumingMemoryBound(to: bp_feed_item.self).pointee
      #expect(without.flags == BP_FEED_NO_DATA && without.data.size == 0)
    }
  }

  private final class Member: FeedIndexed {
    let prefix: [UInt8]
    var slot = 0
    init(_ prefix: String) { self.prefix = Array(prefix.utf8) }
    var text: String { String(decoding: prefix, as: UTF8.self) }
  }

  private func matching(_ index: FeedIndex<Member>, _ uri: String) -> [String] {
    Array(uri.utf8).withUnsafeBufferPointer { index.matching($0).flatMap { $0.map(\.text) } }.sorted()
  }

  @Test func prefixesMatchOnBordersOfSegments() {
    var index = FeedIndex<Member>()
    let members = ["", "a://b", "a://b/c", "a://b/c/d", "a://b/cc", "a://bb", "a://b/c"].map(Member.init)
    for member in members { index.add(member) }
    #expect(matching(index, "a://b/c/d/e") == ["", "a://b", "a://b/c", "a://b/c", "a://b/c/d"])
    #expect(matching(index, "a://b/c") == ["", "a://b", "a://b/c", "a://b/c"])
    #expect(matching(index, "a://b/cc/d") == ["", "a://b", "a://b/cc"])
    #expect(matching(index, "a://bbb") == [""])
    #expect(matching(index, "z://b/c") == [""])
    for member in [members[2], members[0]] { index.remove(member) }
    // Once more does nothing.
    index.remove(members[2])
    #expect(matching(index, "a://b/c") == ["a://b", "a://b/c"] && index.count == 5)
    for member in members { index.remove(member) }
    #expect(index.count == 0 && index.all.isEmpty && matching(index, "a://b/c").isEmpty)
  }

  /// Against the definition, with many prefixes and URIs of few different segments.
  @Test(arguments: [1, 2, 3])
  func theIndexFindsWhatComparingWouldFind(_ seed: UInt64) {
    var random = SeededNumbers(seed)
    func uri(_ random: inout SeededNumbers) -> String {
      "\(["a", "b"].randomElement(using: &random)!)://x"
        + (0..<Int.random(in: 0...5, using: &random)).map { _ in
          "/" + ["", "a", "ab", "b"].randomElement(using: &random)!
        }.joined()
    }
    var index = FeedIndex<Member>()
    var members: [Member] = []
    for _ in 0..<2000 {
      if members.isEmpty || Int.random(in: 0..<3, using: &random) > 0 {
        let member = Member(Int.random(in: 0..<50, using: &random) == 0 ? "" : uri(&random))
        members.append(member)
        index.add(member)
      } else {
        index.remove(members.remove(at: Int.random(in: 0..<members.count, using: &random)))
      }
      let asked = uri(&random)
      let expected = members.filter {
        $0.prefix.isEmpty || asked == $0.text || asked.hasPrefix($0.text + "/")
      }
      #expect(matching(index, asked) == expected.map(\.text).sorted(), "\(asked)")
      let compared = members.filter { member in
        Array(asked.utf8).withUnsafeBufferPointer { FeedPrefix.matches(member.prefix, $0) }
      }
      #expect(compared.count == expected.count, "\(asked)")
    }
    #expect(index.count == members.count)
  }
}

/// The same numbers for the same seed (SplitMix64).
struct SeededNumbers: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}
