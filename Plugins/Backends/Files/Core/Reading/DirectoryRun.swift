import Glibc
import PluginAPI

/// Names of one directory in the order of a scan: all that lie after a place, or as many as fit.
final class DirectoryRun: Sendable {
  struct Entry {
    var start: UInt32
    var count: UInt8
    var rank: RecordPath.Step.Rank
    /// Which of a record's two files are there.
    var hasJSON: Bool
    var hasBytes: Bool
  }

  private let text: [UInt8]
  let entries: [Entry]
  /// After what the names begin; nil: at the beginning.
  let after: RecordPath.Step?
  /// The directory has more names after the last.
  let isCut: Bool
  /// Rises with the time at which reading began.
  let number: UInt64

  private init(number: UInt64, text: [UInt8], entries: [Entry], after: RecordPath.Step?, isCut: Bool) {
    self.number = number
    self.text = text
    self.entries = entries
    self.after = after
    self.isCut = isCut
  }

  var sizeBytes: Int { text.count + entries.count * MemoryLayout<Entry>.stride }

  func step(_ index: Int) -> RecordPath.Step {
    let entry = entries[index]
    return RecordPath.Step(
      stem: Array(text[Int(entry.start)..<(Int(entry.start) + Int(entry.count))]), rank: entry.rank)
  }

  @inline(__always)
  func withStem<R>(_ index: Int, _ body: (BorrowedBytes) -> R) -> R {
    let entry = entries[index]
    return text.withUnsafeBufferPointer {
      body(BorrowedBytes(rebasing: $0[Int(entry.start)..<(Int(entry.start) + Int(entry.count))]))
    }
  }

  /// The first entry after a place, or nil when the run does not know: what lies there is before or behind its names.
  func index(after place: RecordPath.Step?) -> Int? {
    guard let place else { return after == nil ? 0 : nil }
    if let after, place < after { return nil }
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if place < step(middle) { high = middle } else { low = middle + 1 }
    }
    return low == entries.count && isCut ? nil : low
  }

  // MARK: Reading a directory

  /// Reads the names after `place` for which `isWanted` holds; no more than `sizeBytesMax` of them, those that come
  /// first.
  static func read(
    _ directory: Int32, number: UInt64, after place: RecordPath.Step?, sizeBytesMax: Int,
    _ problem: @autoclosure () -> FilesProblem, where isWanted: (BorrowedBytes, RecordPath.Step.Rank) -> Bool
  ) throws(FilesProblem) -> DirectoryRun {
    var gathering = Gathering(place: place, sizeBytesMax: sizeBytesMax)
    try DirectoryNames.each(of: directory, problem()) { name, kind in
      switch kind {
      case .file:
        guard let (count, content) = RecordName.record(in: name) else { return }
        let stem = BorrowedBytes(rebasing: name[..<count])
        if isWanted(stem, .record) { gathering.add(stem, .record, content) }
      case .directory:
        guard let (count, isContinuation) = RecordName.directory(in: name) else { return }
        let stem = BorrowedBytes(rebasing: name[..<count])
        let rank: RecordPath.Step.Rank = isContinuation ? .continuation : .directory
        if isWanted(stem, rank) { gathering.add(stem, rank, nil) }
      case .other: return
      }
    }
    gathering.settle()
    return DirectoryRun(
      number: number, text: gathering.text, entries: gathering.entries, after: place, isCut: gathering.bound != nil)
  }

  private struct Gathering {
    let place: RecordPath.Step?
    let sizeBytesMax: Int
    var text: [UInt8] = []
    var entries: [Entry] = []
    /// Names from here on do not fit.
    var bound: RecordPath.Step?

    mutating func add(_ stem: BorrowedBytes, _ rank: RecordPath.Step.Rank, _ content: Content?) {
      if let place, !Self.precedes(place, stem, rank) { return }
      if let bound, Self.precedes(bound, stem, rank) { return }
      entries.append(
        Entry(
          start: UInt32(text.count), count: UInt8(stem.count), rank: rank, hasJSON: content == .json,
          hasBytes: content == .bytes))
      text.append(contentsOf: stem)
      if text.count + entries.count * MemoryLayout<Entry>.stride > 2 * sizeBytesMax { settle() }
    }

    private static func precedes(
      _ place: RecordPath.Step, _ stem: BorrowedBytes, _ rank: RecordPath.Step.Rank
    ) -> Bool {
      place.stem.withUnsafeBufferPointer { order($0, place.rank, stem, rank) < 0 }
    }

    /// Sorts, takes a record's two files for one, and drops from the end what does not fit.
    mutating func settle() {
      let text = text
      text.withUnsafeBufferPointer { text in
        func stem(_ entry: Entry) -> BorrowedBytes {
          BorrowedBytes(rebasing: text[Int(entry.start)..<(Int(entry.start) + Int(entry.count))])
        }
        entries.sort { order(stem($0), $0.rank, stem($1), $1.rank) < 0 }
        var kept: [Entry] = []
        kept.reserveCapacity(entries.count)
        var keptText: [UInt8] = []
        for entry in entries {
          if let last = kept.last, order(stem(last), last.rank, stem(entry), entry.rank) == 0 {
            kept[kept.count - 1].hasJSON = last.hasJSON || entry.hasJSON
            kept[kept.count - 1].hasBytes = last.hasBytes || entry.hasBytes
            continue
          }
          kept.append(entry)
        }
        var size = 0
        var fitting = 0
        for entry in kept {
          size += Int(entry.count) + MemoryLayout<Entry>.stride
          if size > sizeBytesMax, fitting > 0 { break }
          fitting += 1
        }
        if fitting < kept.count {
          kept.removeLast(kept.count - fitting)
          let last = kept[fitting - 1]
          bound = RecordPath.Step(stem: Array(stem(last)), rank: last.rank)
        }
        for index in kept.indices {
          let bytes = stem(kept[index])
          kept[index].start = UInt32(keptText.count)
          keptText.append(contentsOf: bytes)
        }
        entries = kept
        self.text = keptText
      }
    }
  }
}

/// Negative, zero or positive, in the order of a scan.
private func order(
  _ left: BorrowedBytes, _ leftRank: RecordPath.Step.Rank, _ right: BorrowedBytes, _ rightRank: RecordPath.Step.Rank
) -> Int {
  let common = min(left.count, right.count)
  let difference = common == 0 ? 0 : Int(memcmp(left.baseAddress!, right.baseAddress!, common))
  if difference != 0 { return difference }
  if left.count != right.count { return left.count - right.count }
  return Int(leftRank.rawValue) - Int(rightRank.rawValue)
}
