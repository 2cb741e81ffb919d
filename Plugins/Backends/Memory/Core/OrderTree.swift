import PluginAPI

/// The order of records: depth first, children in the order of their first insertion, a record before what lies below it
/// (b3nd.md, section 9). Overwriting does not move a record; deleting and inserting again does. Under the store's order
/// lock.
final class OrderTree {
  /// Levels of a URI that the order tells apart; what is deeper counts as one level. It bounds the cursor: 8 bytes a
  /// level, under the 4 KiB that backend.h allows.
  static let levelsMax = 500
  private static let partsBits: UInt64 = 6

  let root = TreeNode(parent: nil, sequence: 0, hash: 0, key: BorrowedBytes(start: nil, count: 0))
  // Nodes by URI, in parts, so that growing is never one long pause.
  private let parts: UnsafeMutablePointer<ByteTable<TreeNode>>
  let hash: ByteHash
  var nextSequence: UInt64 = 1

  init(hash: ByteHash) {
    self.hash = hash
    parts = .allocate(capacity: 1 << Self.partsBits)
    for index in 0..<(1 << Int(Self.partsBits)) { (parts + index).initialize(to: ByteTable()) }
  }

  deinit {
    parts.deinitialize(count: 1 << Self.partsBits)
    parts.deallocate()
  }

  @inline(__always)
  func part(_ hash: UInt64) -> UnsafeMutablePointer<ByteTable<TreeNode>> {
    parts + Int(hash >> (64 - Self.partsBits))
  }

  private func find(_ path: BorrowedBytes) -> TreeNode? {
    let hash = hash(path)
    return part(hash).pointee.find(hash, path)
  }

  // MARK: Changes

  /// Puts a record where there is none.
  func insert(_ block: RecordBlock, hash: UInt64) {
    let node = part(hash).pointee.find(hash, block.key) ?? make(block.key)
    node.record = block
    block.header.node = node
  }

  /// Puts a record in the place of another one with the same URI.
  func replace(_ old: RecordBlock, with new: RecordBlock) {
    let node = old.header.node!
    node.record = new
    new.header.node = node
  }

  /// Removes exactly this record; branches without any record go with it.
  func remove(_ block: RecordBlock) {
    var node = block.header.node!
    node.record = nil
    while let parent = node.parent, node.record == nil, !node.hasChildren {
      parent.remove(node)
      _ = part(node.hash).pointee.remove(node.hash, node.key)
      node = parent
    }
  }

  private func make(_ uri: BorrowedBytes) -> TreeNode {
    let ends = Self.levelEnds(uri, isPrefix: false)
    var level = ends.count - 1
    var node = root
    while level > 0 {
      if let found = find(BorrowedBytes(rebasing: uri[..<ends[level - 1]])) {
        node = found
        break
      }
      level -= 1
    }
    for end in ends[level...] {
      let path = BorrowedBytes(rebasing: uri[..<end])
      let hash = hash(path)
      let child = TreeNode(parent: node, sequence: nextSequence, hash: hash, key: path)
      nextSequence += 1
      _ = part(hash).pointee.put(hash, child)
      node.append(child)
      node = child
    }
    return node
  }

  /// Where the levels of a URI end: `scheme://authority`, then each segment. A text without `://` is one level. Of a
  /// prefix only the ends that are certain, those before a slash.
  static func levelEnds(_ uri: BorrowedBytes, isPrefix: Bool) -> [Int] {
    var ends: [Int] = []
    levelEnds(uri, isPrefix: isPrefix, into: &ends)
    return ends
  }

  static func levelEnds(_ uri: BorrowedBytes, isPrefix: Bool, into ends: inout [Int]) {
    ends.removeAll(keepingCapacity: true)
    let slash = UInt8(ascii: "/")
    var index = 0
    var hasAuthority = false
    while index + 2 < uri.count {
      if uri[index] == UInt8(ascii: ":"), uri[index + 1] == slash, uri[index + 2] == slash {
        hasAuthority = true
        break
      }
      index += 1
    }
    if hasAuthority {
      index += 3
      // The last level of all is the whole URI, so one fewer may end at a slash.
      while index < uri.count, ends.count < levelsMax - 1 {
        if uri[index] == slash { ends.append(index) }
        index += 1
      }
    }
    if !isPrefix { ends.append(uri.count) }
  }

  // MARK: Pages

  /// Calls `emit` for up to `limit` records whose URI begins with `prefix`, after `cursor`, and returns the cursor of
  /// the next page; nil: this was the last. A cursor is the path of sequence numbers below the prefix's node, so it
  /// stays good when the record it names is deleted. Looks at no more than `visitsMax` nodes.
  func page(
    prefix: BorrowedBytes, cursor: BorrowedBytes, limit: Int, visitsMax: Int, emit: (RecordBlock) -> Void
  ) -> [UInt8]? {
    var base = root
    var isFiltered = !prefix.isEmpty
    if let end = Self.levelEnds(prefix, isPrefix: true).last {
      guard let found = find(BorrowedBytes(rebasing: prefix[..<end])) else { return nil }
      base = found
      isFiltered = end + 1 < prefix.count
    }

    var frames = resume(base, cursor)
    // A cursor may name a node that the filter passed over: what lies below it is not wanted either.
    if isFiltered, frames.count > 1, !Self.begins(frames[1].node.key, with: prefix) {
      frames.removeLast(frames.count - 1)
    }
    return walk(&frames, limit: limit, visitsMax: visitsMax, filter: isFiltered ? prefix : nil, emit: emit)
  }

  /// Goes on from `frames`. With a filter only what begins with it is wanted of the first level.
  private func walk(
    _ frames: inout [Frame], limit: Int, visitsMax: Int, filter: BorrowedBytes?, emit: (RecordBlock) -> Void
  ) -> [UInt8]? {
    var emitted = 0
    var visits = 0
    var next: [UInt8]?
    while let top = frames.last {
      guard top.index < top.node.children.count else {
        frames.removeLast()
        continue
      }
      frames[frames.count - 1].index += 1
      guard let node = top.node.children[top.index].node else { continue }
      visits += 1
      if let filter, frames.count == 1, !Self.begins(node.key, with: filter) {
        if visits >= visitsMax { return next ?? Self.cursor(frames) }
        continue
      }
      if let record = node.record {
        // One record more than was asked for: there is a next page.
        if emitted == limit { return next }
        emit(record)
        emitted += 1
        if emitted == limit { next = Self.cursor(frames) }
      }
      // Before the children: the cursor names this node.
      if visits >= visitsMax { return next ?? Self.cursor(frames) }
      if node.hasChildren { frames.append(Frame(node: node, index: 0)) }
    }
    return nil
  }

  // MARK: Pages from the middle

  /// How many records lie below `prefix`, after calling `emit` for up to `limit` of them, beginning with number `offset`.
  /// Nil, and nothing emitted, when that cannot be said without looking at more than `visitsMax` nodes, or when the prefix
  /// does not end with a level.
  func query(
    prefix: BorrowedBytes, offset: Int, limit: Int, visitsMax: Int, emit: (RecordBlock) -> Void
  ) -> Int? {
    var base = root
    if !prefix.isEmpty {
      guard let end = Self.levelEnds(prefix, isPrefix: true).last, end + 1 == prefix.count else { return nil }
      guard let found = find(BorrowedBytes(rebasing: prefix[..<end])) else { return 0 }
      base = found
    }
    let total = base.belowCount
    guard offset < total, limit > 0 else { return total }
    guard var frames = frames(before: offset, of: base, visitsMax: visitsMax) else { return nil }
    _ = walk(&frames, limit: limit, visitsMax: .max, filter: nil, emit: emit)
    return total
  }

  /// Where a walk stands that has emitted `offset` records below `base`, which has more.
  private func frames(before offset: Int, of base: TreeNode, visitsMax: Int) -> [Frame]? {
    var frames: [Frame] = []
    var node = base
    var left = offset
    var visits = 0
    while true {
      var index = 0
      if node.isEven {
        index = left
        left = 0
      }
      // There is more below than is left to pass over, so one of the children holds the record.
      var holder: TreeNode?
      while holder == nil {
        visits += 1
        if visits > visitsMax { return nil }
        guard let child = node.children[index].node, child.recordsCount > left else {
          left -= node.children[index].node?.recordsCount ?? 0
          index += 1
          continue
        }
        holder = child
      }
      guard let child = holder, child.record == nil || left > 0 else {
        frames.append(Frame(node: node, index: index))
        return frames
      }
      if child.record != nil { left -= 1 }
      frames.append(Frame(node: node, index: index + 1))
      node = child
    }
  }

  private struct Frame {
    unowned(unsafe) var node: TreeNode
    /// The next child to look at.
    var index: Int
  }

  private func resume(_ base: TreeNode, _ cursor: BorrowedBytes) -> [Frame] {
    var frames: [Frame] = []
    var node = base
    let raw = UnsafeRawBufferPointer(cursor)
    for offset in stride(from: 0, to: raw.count, by: 8) {
      let sequence = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      let index = node.lowerBound(sequence)
      guard index < node.children.count, node.children[index].sequence == sequence,
        let child = node.children[index].node
      else {
        // The node is gone: go on with the first one after it.
        frames.append(Frame(node: node, index: index))
        return frames
      }
      frames.append(Frame(node: node, index: index + 1))
      node = child
    }
    frames.append(Frame(node: node, index: 0))
    return frames
  }

  private static func cursor(_ frames: [Frame]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(frames.count * 8)
    for frame in frames where frame.index > 0 {
      withUnsafeBytes(of: frame.node.children[frame.index - 1].sequence.littleEndian) { bytes.append(contentsOf: $0) }
    }
    return bytes
  }

  private static func begins(_ bytes: BorrowedBytes, with prefix: BorrowedBytes) -> Bool {
    bytes.count >= prefix.count && bytesAreEqual(BorrowedBytes(rebasing: bytes[..<prefix.count]), prefix)
  }
}
