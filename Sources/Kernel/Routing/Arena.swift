import BackplaneABI

/// Memory of one request: grows in blocks, moves nothing, is freed at once.
final class Arena {
  private var blocks: [UnsafeMutableRawPointer] = []
  private var next: UnsafeMutableRawPointer?
  private var left = 0
  private static let blockBytes = 1024

  deinit {
    for block in blocks { block.deallocate() }
  }

  func allocate(_ count: Int) -> UnsafeMutableRawPointer {
    let rounded = (max(count, 1) + 15) & ~15
    if rounded > left {
      let size = max(rounded, Arena.blockBytes)
      let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
      blocks.append(block)
      guard size > rounded else { return block }
      next = block
      left = size
    }
    defer {
      next = next! + rounded
      left -= rounded
    }
    return next!
  }

  func copy(_ view: bp_view) -> bp_view {
    guard view.size > 0 else { return .empty }
    let target = allocate(Int(view.size))
    target.copyMemory(from: view.data, byteCount: Int(view.size))
    return bp_view(data: target.assumingMemoryBound(to: UInt8.self), size: view.size)
  }
}
