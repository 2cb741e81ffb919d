import PluginAPI

/// One level of one URI: a record, what lies below it, or both. Under the store's order lock.
final class TreeNode: ByteKeyed {
  struct Child {
    var sequence: UInt64
    /// nil: removed, waiting to be compacted away.
    var node: TreeNode?
  }

  /// nil: the root.
  unowned(unsafe) let parent: TreeNode?
  /// Rises with every node that the store makes: the order among siblings, and a name that is never used again.
  private(set) var sequence: UInt64
  let hash: UInt64
  let key: BorrowedBytes
  var record: RecordBlock? {
    didSet {
      guard (oldValue == nil) != (record == nil) else { return }
      count(record == nil ? -1 : 1)
    }
  }
  /// Records here and below: what a list's total is, without a walk.
  private(set) var recordsCount = 0
  /// Sorted by sequence, because a new child has the highest.
  private(set) var children: ContiguousArray<Child> = []
  private var liveCount = 0

  init(parent: TreeNode?, sequence: UInt64, hash: UInt64, key: BorrowedBytes) {
    self.parent = parent
    self.sequence = sequence
    self.hash = hash
    let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: key.count)
    _ = copy.initialize(from: key)
    self.key = BorrowedBytes(copy)
  }

  deinit { key.deallocate() }

  var hasChildren: Bool { liveCount > 0 }

  /// Records below, this one not among them.
  var belowCount: Int { recordsCount - (record == nil ? 0 : 1) }

  /// Every child holds exactly one record, itself or below it, and none is waiting to be compacted away: the n-th record
  /// is in the n-th child.
  var isEven: Bool { liveCount == children.count && belowCount == liveCount }

  private func count(_ change: Int) {
    recordsCount += change
    var node = parent
    while let above = node {
      above.recordsCount += change
      node = above.parent
    }
  }

  func append(_ child: TreeNode) {
    children.append(Child(sequence: child.sequence, node: child))
    liveCount += 1
  }

  /// Puts a child among its siblings, wherever its sequence says; false: there is one with this sequence.
  func insert(_ child: TreeNode) -> Bool {
    if children.last.map({ $0.sequence < child.sequence }) ?? true {
      append(child)
      return true
    }
    let index = lowerBound(child.sequence)
    guard children[index].sequence != child.sequence else {
      // A removed one's place; a number is never given to another node, but this one may come back to it.
      guard children[index].node == nil else { return false }
      children[index].node = child
      liveCount += 1
      return true
    }
    children.insert(Child(sequence: child.sequence, node: child), at: index)
    liveCount += 1
    return true
  }

  /// Gives a child another sequence, and the place that goes with it; false: there is a sibling with this sequence.
  func move(_ child: TreeNode, to sequence: UInt64) -> Bool {
    remove(child)
    child.sequence = sequence
    return insert(child)
  }

  func remove(_ child: TreeNode) {
    let index = lowerBound(child.sequence)
    children[index].node = nil
    liveCount -= 1
    // Each compaction is paid for by as many removals as it drops entries.
    if liveCount == 0 {
      children = []
    } else if children.count > 32, children.count > 2 * liveCount {
      children.removeAll { $0.node == nil }
    }
  }

  /// The index of the first child whose sequence is not below `sequence`.
  func lowerBound(_ sequence: UInt64) -> Int {
    var low = 0
    var high = children.count
    while low < high {
      let middle = (low + high) / 2
      if children[middle].sequence < sequence { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
