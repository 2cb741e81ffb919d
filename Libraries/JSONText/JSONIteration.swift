/// The elements of a JSON array, in order, without a tree. Empty for a value of another kind.
public struct JSONElements: Sequence, IteratorProtocol {
  private var cursor: JSONCursor?
  private var isFirst = true

  init(_ slice: JSONSlice) {
    guard slice.kind == .array else { return }
    cursor = JSONCursor(insideOf: slice)
  }

  public mutating func next() -> JSONSlice? {
    guard cursor?.stepElement(isFirst: &isFirst) == .item, let element = cursor?.value(depth: 1) else {
      cursor = nil
      return nil
    }
    return element
  }
}

/// The members of a JSON object, in order and with duplicates, without a tree. Empty for a value of another kind.
public struct JSONMembers: Sequence, IteratorProtocol {
  private var cursor: JSONCursor?
  private var isFirst = true

  init(_ slice: JSONSlice) {
    guard slice.kind == .object else { return }
    cursor = JSONCursor(insideOf: slice)
  }

  public mutating func next() -> (key: JSONSlice, value: JSONSlice)? {
    var key: JSONSlice?
    guard cursor?.stepMember(isFirst: &isFirst, key: &key) == .item, let key, let value = cursor?.value(depth: 1) else {
      cursor = nil
      return nil
    }
    return (key, value)
  }
}

extension JSONSlice {
  /// Each call walks the array anew; an element costs one pass over its bytes.
  public var elements: JSONElements { JSONElements(self) }

  /// Each call walks the object anew; a member costs one pass over its bytes.
  public var members: JSONMembers { JSONMembers(self) }

  /// The value of the **last** member with this name, as JavaScript would see it; nil when there is none or the value
  /// is no object. `name` must be ASCII. Walks the whole object.
  public func member(_ name: StaticString) -> JSONSlice? {
    var found: JSONSlice?
    for (key, value) in members where key.isText(name) { found = value }
    return found
  }
}

extension JSONCursor {
  /// Over the inside of an array or object that was validated before. It is read with all the checks once more: a
  /// caller who let the buffer change gets a short answer and no read out of bounds.
  init(insideOf slice: JSONSlice) {
    // A slice of an array or object has at least two bytes, so its base address is never nil.
    let base = slice.bytes.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self)
    self.init(start: base, count: slice.bytes.count, depthMax: .max)
    next += 1
  }
}
