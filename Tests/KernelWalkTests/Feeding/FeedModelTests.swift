import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

/// Random writes, subscriptions, credits and cancellations against a log of everything: what a subscription got must be
/// what the log says it wants, in order, with nothing left out that no gap tells of.
struct FeedModelTests {
  private struct Write {
    var uri: String
    var text: String
    var isDelete: Bool
  }

  private final class Reader {
    let listener = FeedListener()
    let prefix: String
    let token: bp_token
    let credits: Mutex<Int>
    /// After which position, and whether that is to be told as a gap; nil: the ring may have lost the place meanwhile.
    let start: UInt64
    var isCancelled = false

    init(_ feed: Feed, _ prefix: String, after place: (epoch: UInt64, position: UInt64)?, credits: Int) {
      self.prefix = prefix
      self.credits = Mutex(credits)
      start = place?.position ?? feed.position
      let request = bp_subscribe(
        size: UInt32(MemoryLayout<bp_subscribe>.size), flags: 0, prefix: .empty, epoch: place?.epoch ?? 0,
        position: place?.position ?? 0, credits: UInt32(credits), reserved: 0)
      guard
        case .token(let token) = feed.subscribe(
          7, prefix: Array(prefix.utf8), request, listener.completion, ended: {})
      else { preconditionFailure("the feed refused a subscription") }
      self.token = token
    }

    func wants(_ write: Write) -> Bool { prefix.isEmpty || write.uri == prefix || write.uri.hasPrefix(prefix + "/") }
  }

  private func append(_ writes: [Write], to feed: Feed) {
    var memory: [UnsafeMutableBufferPointer<UInt8>] = []
    func view(_ text: String) -> bp_view {
      let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(1, text.utf8.count))
      _ = copy.initialize(from: text.utf8)
      memory.append(copy)
      return bp_view(data: UnsafePointer(copy.baseAddress), size: UInt64(text.utf8.count))
    }
    let ops = writes.map { write in
      var op = bp_op()
      op.verb = write.isDelete ? BP_VERB_DELETE : BP_VERB_PUT
      op.uri = view(write.uri)
      op.data = view(write.text)
      return op
    }
    ops.withUnsafeBufferPointer {
      feed.append($0, timestampMs: 1, version: 1, began: feed.position, isOrdered: true)
    }
    // The feed keeps copies.
    for copy in memory {
      copy.update(repeating: 0xA5)
      copy.deallocate()
    }
  }

  @Test(arguments: 1...24)
  func everySubscriptionGetsWhatTheLogSays(_ seed: UInt64) {
    var random = SeededNumbers(seed)
    func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
    func uri() -> String {
      "a://x" + (0..<number(0...3)).map { _ in "/\(["a", "b", "ab"].randomElement(using: &random)!)" }.joined()
    }
    let recordsMax = [3, 20, 200, 100_000].randomElement(using: &random)!
    let feed = Feed()
    feed.apply(FeedSettings(recordsMax: recordsMax))
    var log: [Write] = []
    var readers: [Reader] = []
    for step in 0..<400 {
      switch number(0...9) {
      case 0...5:
        let writes = (0..<number(1...4)).map { index in
          Write(uri: uri(), text: "\(step).\(index)", isDelete: number(0...5) == 0)
        }
        let isKept = feed.isActive
        append(writes, to: feed)
        // Positions are given to what is kept.
        if isKept { log += writes }
      case 6:
        readers.append(Reader(feed, number(0...3) == 0 ? "" : uri(), after: nil, credits: number(0...20)))
      case 7:
        guard let reader = readers.randomElement(using: &random), !reader.isCancelled else { break }
        let credits = number(1...30)
        reader.credits.withLock { $0 += credits }
        #expect(feed.grant(7, reader.token, UInt32(credits)) == BP_OK)
      case 8:
        guard let reader = readers.randomElement(using: &random), !reader.isCancelled else { break }
        reader.isCancelled = true
        feed.cancel(7, reader.token)
        #expect(reader.listener.end.soon()?.code == BP_CANCELLED)
        #expect(feed.grant(7, reader.token, 1) == BP_CLOSED)
        // It comes back where it stopped.
        guard let last = reader.listener.items.last, number(0...1) == 0 else { break }
        readers.append(
          Reader(feed, reader.prefix, after: (last.epoch, last.position), credits: number(0...20)))
      default: break
      }
    }
    for reader in readers where !reader.isCancelled {
      reader.credits.withLock { $0 += 1_000_000 }
      _ = feed.grant(7, reader.token, 1_000_000)
    }
    for reader in readers {
      if !reader.isCancelled {
        let wanted = log.indices.last { UInt64($0 + 1) > reader.start && reader.wants(log[$0]) }
        #expect(
          eventually { reader.listener.items.last.map { $0.position >= UInt64((wanted ?? -1) + 1) } ?? false },
          "seed \(seed): \(reader.prefix) after \(reader.start)")
      }
      check(reader, log, recordsMax, "seed \(seed)")
    }
    let deadlineNs = Clock.monotonicNs() + patienceNs
    #expect(feed.shutDown(untilNs: deadlineNs))
    #expect(feed.report.subscriptions == 0)
    for reader in readers { #expect(reader.listener.endsCount.load(ordering: .acquiring) == 1) }
  }

  private func check(_ reader: Reader, _ log: [Write], _ recordsMax: Int, _ comment: Comment) {
    let items = reader.listener.items
    #expect(reader.listener.faults == 0, comment)
    #expect(items.count <= reader.credits.withLock { $0 }, comment)
    guard let first = items.first else { return }
    #expect(first.isPlace && (first.isGap || first.position == reader.start), comment)
    var position = reader.start
    for (index, item) in items.enumerated() {
      #expect(item.position > position || index == 0 || item.isPlace && item.position >= position, comment)
      if item.isGap {
        #expect(item.isPlace && log.count - Int(position) > recordsMax, comment)
      } else {
        let skipped = log[Int(position)..<max(Int(position), Int(item.position) - (item.isPlace ? 0 : 1))]
        #expect(skipped.allSatisfy { !reader.wants($0) }, comment)
      }
      if !item.isPlace {
        let write = log[Int(item.position) - 1]
        #expect(reader.wants(write), comment)
        #expect(item.uri == write.uri && item.text == (write.isDelete ? "" : write.text), comment)
        #expect((item.verb == BP_VERB_DELETE) == write.isDelete, comment)
      }
      position = item.position
    }
  }
}
