import Glibc
import PluginAPI

/// What a table can hold: an object that knows its key.
protocol ByteKeyed: AnyObject {
  /// Valid as long as the object.
  var key: BorrowedBytes { get }
}

@inline(__always)
func bytesAreEqual(_ left: BorrowedBytes, _ right: BorrowedBytes) -> Bool {
  left.count == right.count && (left.isEmpty || memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0)
}

/// Objects by the bytes of their key: open addressing with linear probing and the hash kept beside the pointer, so that
/// a look-up makes no String, compares bytes about once, and growing touches no object. The owner locks.
struct ByteTable<Element: ByteKeyed>: ~Copyable {
  private struct Slot {
    var hash: UInt64
    var element: Unmanaged<Element>?
  }

  private var slots: UnsafeMutablePointer<Slot>
  private var mask: Int
  private(set) var count = 0

  init() {
    slots = Self.empty(16)
    mask = 15
  }

  deinit {
    for index in 0...mask { slots[index].element?.release() }
    slots.deallocate()
  }

  private static func empty(_ capacity: Int) -> UnsafeMutablePointer<Slot> {
    let slots = UnsafeMutablePointer<Slot>.allocate(capacity: capacity)
    slots.initialize(repeating: Slot(hash: 0, element: nil), count: capacity)
    return slots
  }

  /// The slot of `key`, or the free slot where it belongs.
  @inline(__always)
  private func index(_ hash: UInt64, _ key: BorrowedBytes) -> Int {
    var index = Int(truncatingIfNeeded: hash) & mask
    while let element = slots[index].element {
      if slots[index].hash == hash, element._withUnsafeGuaranteedRef({ bytesAreEqual($0.key, key) }) { break }
      index = (index + 1) & mask
    }
    return index
  }

  @inline(__always)
  func find(_ hash: UInt64, _ key: BorrowedBytes) -> Element? {
    slots[index(hash, key)].element?.takeUnretainedValue()
  }

  /// Puts `element` at its key and returns what was there.
  mutating func put(_ hash: UInt64, _ element: Element) -> Element? {
    let index = index(hash, element.key)
    let old = slots[index].element
    slots[index] = Slot(hash: hash, element: .passRetained(element))
    if old == nil {
      count += 1
      if count * 4 > (mask + 1) * 3 { grow() }
    }
    return old?.takeRetainedValue()
  }

  mutating func remove(_ hash: UInt64, _ key: BorrowedBytes) -> Element? {
    var hole = index(hash, key)
    guard let old = slots[hole].element else { return nil }
    // What follows in the same run moves back, so that no probe ends at the hole too early.
    var next = (hole + 1) & mask
    while slots[next].element != nil {
      let home = Int(truncatingIfNeeded: slots[next].hash) & mask
      if (next - home) & mask >= (next - hole) & mask {
        slots[hole] = slots[next]
        hole = next
      }
      next = (next + 1) & mask
    }
    slots[hole] = Slot(hash: 0, element: nil)
    count -= 1
    return old.takeRetainedValue()
  }

  /// Everything in it, in no order.
  func forEach(_ body: (UInt64, Element) -> Void) {
    for index in 0...mask {
      if let element = slots[index].element { body(slots[index].hash, element.takeUnretainedValue()) }
    }
  }

  private mutating func grow() {
    let old = slots
    let oldCapacity = mask + 1
    slots = Self.empty(oldCapacity * 2)
    mask = oldCapacity * 2 - 1
    for slot in UnsafeBufferPointer(start: old, count: oldCapacity) where slot.element != nil {
      var index = Int(truncatingIfNeeded: slot.hash) & mask
      while slots[index].element != nil { index = (index + 1) & mask }
      slots[index] = slot
    }
    old.deallocate()
  }
}
