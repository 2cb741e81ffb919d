import PluginAPI

/// The order as another tree has it: nodes with given sequence numbers.
extension OrderTree {
  /// Where the record placed before stands: records come in order, so that the next one mostly shares its branch.
  struct Placement {
    fileprivate var nodes: [TreeNode] = []
    fileprivate var ends: [Int] = []

    /// Nodes may have gone.
    mutating func reset() { nodes.removeAll(keepingCapacity: true) }
  }

  /// The sequence numbers from the first level to a record's own. Under the store's order lock.
  static func appendPath(of record: RecordBlock, to path: inout [UInt64]) {
    let start = path.count
    var node = record.header.node!
    while let parent = node.parent {
      path.append(node.sequence)
      node = parent
    }
    path[start...].reverse()
  }

  /// No node gets a sequence number below this one.
  func skip(to sequence: UInt64) {
    nextSequence = max(nextSequence, min(sequence, Self.sequenceMax))
  }

  private static let sequenceMax: UInt64 = 1 << 62

  /// Puts a record at the place that its predecessor had: `shared` levels as the record before, the others with the
  /// sequence numbers in `own`.
  func place(
    _ block: RecordBlock, hash: UInt64, shared: Int, own: UnsafeRawBufferPointer, _ placement: inout Placement
  ) throws(Failure) {
    let uri = block.key
    Self.levelEnds(uri, isPrefix: false, into: &placement.ends)
    let count = placement.ends.count
    guard shared + own.count / 8 == count, shared < count, shared <= placement.nodes.count else { throw misplaced() }
    placement.nodes.removeSubrange(shared...)
    var node = root
    if let last = placement.nodes.last {
      guard bytesAreEqual(last.key, BorrowedBytes(rebasing: uri[..<placement.ends[shared - 1]])) else {
        throw misplaced()
      }
      node = last
    }
    for level in shared..<count {
      let sequence = UInt64(
        littleEndian: own.loadUnaligned(fromByteOffset: (level - shared) * 8, as: UInt64.self))
      let path = BorrowedBytes(rebasing: uri[..<placement.ends[level]])
      node = try child(of: node, path, hash: level == count - 1 ? hash : self.hash(path), sequence)
      placement.nodes.append(node)
    }
    node.record = block
    block.header.node = node
  }

  private func child(
    of parent: TreeNode, _ path: BorrowedBytes, hash: UInt64, _ sequence: UInt64
  ) throws(Failure) -> TreeNode {
    guard sequence > 0, sequence < Self.sequenceMax else { throw misplaced() }
    nextSequence = max(nextSequence, sequence + 1)
    let part = part(hash)
    guard let found = part.pointee.find(hash, path) else {
      let made = TreeNode(parent: parent, sequence: sequence, hash: hash, key: path)
      guard parent.insert(made) else { throw misplaced() }
      _ = part.pointee.put(hash, made)
      return made
    }
    guard found.parent === parent else { throw misplaced() }
    if found.sequence != sequence {
      // Everything below it was deleted and it was made anew: what is left below it comes again as well.
      guard parent.move(found, to: sequence) else { throw misplaced() }
    }
    return found
  }

  private func misplaced() -> Failure {
    Failure(code: BP_DATA_LOSS, "the state that was handed over is torn: a record's place in the order makes no sense")
  }
}
