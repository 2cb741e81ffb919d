import BackendSupport
import Glibc
import PluginAPI

/// Lists records: a walk through the directories, each in the order of its names, a record before what lies below it. The
/// cursor is the last URI, which says where the walk stood. Any thread.
struct Scanner: Sendable {
  let tree: Tree
  let gate: PlacementGate
  let cache: RunCache

  /// A directory on the way.
  private struct Level {
    var directory: [UInt8]
    /// Where the text of its own ends in the text of a URI below it.
    var textCount: Int
    /// Its stem's length, when it is how a long segment goes on.
    var continues: Int?
    /// Up to where it is done; nil: at the beginning.
    var after: RecordPath.Step?
    var run: DirectoryRun?
    var index = 0
    var descriptor: Int32 = -1
  }

  func page(prefix: BorrowedBytes, cursor: BorrowedBytes, limit: Int) throws(FilesProblem) -> FoundPage {
    var walk = Walk(scanner: self, prefix: prefix, limit: limit)
    defer { walk.close() }
    walk.begin(cursor)
    try walk.run()
    return walk.page
  }

  private struct Walk {
    let scanner: Scanner
    let prefix: BorrowedBytes
    let limit: Int
    var page = FoundPage()
    private var levels: [Level] = []
    /// The URI so far; a level's own text is a beginning of it.
    private var text: [UInt8] = []
    /// Of the runs of all levels.
    private var heldSizeBytes = 0

    init(scanner: Scanner, prefix: BorrowedBytes, limit: Int) {
      self.scanner = scanner
      self.prefix = prefix
      self.limit = limit
    }

    // MARK: Where to begin

    /// In the directory that the prefix names, or in the one where the cursor stood.
    mutating func begin(_ cursor: BorrowedBytes) {
      let base = RecordPath.directories(of: prefix)
      text = Array(prefix[..<base.textCount])
      levels = [Level(directory: RecordPath.path(base.steps), textCount: text.count)]
      guard !cursor.isEmpty, let path = RecordPath(cursor), path.steps.starts(with: base.steps) else { return }
      for step in path.steps[base.steps.count...] {
        levels[levels.count - 1].after = step
        if step.rank != .record { step.stem.withUnsafeBufferPointer { descend($0, step.rank) } }
      }
    }

    private mutating func descend(_ stem: BorrowedBytes, _ rank: RecordPath.Step.Rank) {
      let above = levels[levels.count - 1]
      closeDescriptor()
      text.removeLast(text.count - above.textCount)
      RecordName.append(stem, to: &text)
      if rank == .directory { text.append(contentsOf: separator(below: above)) }
      var directory = above.directory
      if !directory.isEmpty { directory.append(UInt8(ascii: "/")) }
      directory += RecordName.directory(stem, isContinuation: rank == .continuation)
      levels.append(
        Level(directory: directory, textCount: text.count, continues: rank == .continuation ? stem.count : nil))
    }

    private func separator(below level: Level) -> BorrowedBytes {
      (level.directory.isEmpty ? "://" as StaticString : "/").bytes
    }

    // MARK: Walking

    mutating func run() throws(FilesProblem) {
      while !levels.isEmpty {
        guard let run = try currentRun() else {
          leave()
          continue
        }
        let top = levels.count - 1
        let index = levels[top].index
        guard index < run.entries.count else {
          if run.isCut, let last = run.entries.indices.last {
            drop(run, after: last)
          } else {
            leave()
          }
          continue
        }
        let entry = run.entries[index]
        if entry.rank == .record {
          guard try emit(run, index) else {
            page.hasMore = true
            keepRuns()
            return
          }
          levels[top].index += 1
        } else {
          levels[top].index += 1
          // A way with many large directories: this one is read again when the walk comes back.
          if heldSizeBytes > scanner.cache.sizeBytesMax { drop(run, after: index) }
          run.withStem(index) { descend($0, entry.rank) }
        }
      }
    }

    private mutating func drop(_ run: DirectoryRun, after index: Int) {
      levels[levels.count - 1].after = run.step(index)
      levels[levels.count - 1].run = nil
      heldSizeBytes -= run.sizeBytes
    }

    /// The names of the directory on top; nil: it is not there any more.
    private mutating func currentRun() throws(FilesProblem) -> DirectoryRun? {
      let top = levels.count - 1
      if let run = levels[top].run { return run }
      let level = levels[top]
      if let place = level.after, let found = scanner.cache.find(key(level), after: place) {
        hold(found.run, from: found.index)
        return found.run
      }
      guard let descriptor = try descriptor() else { return nil }
      let run = try DirectoryRun.read(
        descriptor, number: scanner.cache.nextNumber(), after: level.after, sizeBytesMax: scanner.cache.runSizeBytesMax,
        scanner.tree.problem(EIO, "reading", level.directory)
      ) { stem, rank in
        isWanted(stem, rank, level)
      }
      hold(run, from: 0)
      return run
    }

    private mutating func hold(_ run: DirectoryRun, from index: Int) {
      levels[levels.count - 1].run = run
      levels[levels.count - 1].index = index
      heldSizeBytes += run.sizeBytes
    }

    /// Of the directory on top; nil: it is not there any more.
    private mutating func descriptor() throws(FilesProblem) -> Int32? {
      let top = levels.count - 1
      if levels[top].descriptor >= 0 { return levels[top].descriptor }
      let directory = levels[top].directory
      let number = scanner.tree.open(directory.isEmpty ? [UInt8(ascii: ".")] : directory, Tree.directoryFlags)
      if number == -ENOENT || number == -ENOTDIR { return nil }
      if number < 0 { throw scanner.tree.problem(-number, "opening", directory) }
      levels[top].descriptor = number
      return number
    }

    /// Whether records of that name or below it can begin with the prefix.
    private func isWanted(_ stem: BorrowedBytes, _ rank: RecordPath.Step.Rank, _ level: Level) -> Bool {
      // The root holds schemes and no records.
      if level.directory.isEmpty, rank != .directory || !RecordPath.isScheme(stem) { return false }
      if let count = level.continues, !RecordName.continues(stem, after: count) { return false }
      if level.textCount >= prefix.count { return true }
      var rest: [UInt8] = []
      RecordName.append(stem, to: &rest)
      if rank == .directory { rest.append(contentsOf: separator(below: level)) }
      let wanted = prefix[level.textCount...]
      return rank == .record ? rest.starts(with: wanted) : rest.starts(with: wanted.prefix(rest.count))
    }

    private mutating func leave() {
      closeDescriptor()
      let level = levels.removeLast()
      heldSizeBytes -= level.run?.sizeBytes ?? 0
      if level.after != nil { scanner.cache.forget(key(level)) }
    }

    private func key(_ level: Level) -> RunCache.Key {
      RunCache.Key(
        directory: level.directory, filter: level.textCount < prefix.count ? Array(prefix[level.textCount...]) : [])
    }

    /// What is left of the directories on the way is read when the next page comes.
    private func keepRuns() {
      for level in levels {
        if let run = level.run, level.index < run.entries.count { scanner.cache.keep(key(level), run) }
      }
    }

    // MARK: Items

    /// false: the page is full. A record that is gone meanwhile is passed over.
    private mutating func emit(_ run: DirectoryRun, _ index: Int) throws(FilesProblem) -> Bool {
      guard let file = try file(run, index) else { return true }
      if page.items.count == limit { return false }
      let level = levels[levels.count - 1]
      page.text.append(contentsOf: text[..<level.textCount])
      run.withStem(index) { RecordName.append($0, to: &page.text) }
      page.items.append(
        FoundPage.Item(
          uriEnd: page.text.count, timestampMs: file.stamp.timestampMs, version: file.stamp.version,
          sizeBytes: UInt64(file.sizeBytes), content: file.content.rawValue))
      return true
    }

    private mutating func file(_ run: DirectoryRun, _ index: Int) throws(FilesProblem) -> RecordFile? {
      guard let descriptor = try descriptor() else { return nil }
      let entry = run.entries[index]
      // The kind seen first; the other one may have taken its place.
      let contents: [Content] = entry.hasJSON ? [.json, .bytes] : [.bytes, .json]
      return scanner.gate.reading {
        for content in contents {
          let name = run.withStem(index) { RecordName.file($0, content) }
          var status = stat()
          if Tree.withName(name, { fstatat(descriptor, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0,
            let file = scanner.tree.file(content, name, status, in: descriptor)
          {
            return file
          }
        }
        return nil
      }
    }

    /// Only the directory on top has a descriptor: the way may be longer than a process may have open.
    private mutating func closeDescriptor() {
      guard let top = levels.indices.last, levels[top].descriptor >= 0 else { return }
      Glibc.close(levels[top].descriptor)
      levels[top].descriptor = -1
    }

    mutating func close() { closeDescriptor() }
  }
}
