import Synchronization

/// What a schema in a child said of URIs: `canonical_uri` is pure, so an answer is good for ever. Bounded: when the newer
/// half is full it becomes the older one, which is forgotten as a whole.
final class CanonicalAnswers: Sendable {
  static let halfMax = 4096

  private struct Halves {
    var newer: [[UInt8]: [UInt8]] = [:]
    var older: [[UInt8]: [UInt8]] = [:]
  }
  private let halves = Mutex(Halves())

  /// The canonical form; empty when the URI is canonical; nil when nobody has asked.
  func find(_ uri: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    let key = Array(uri)
    return halves.withLock { halves in
      if let known = halves.newer[key] { return known }
      guard let known = halves.older[key] else { return nil }
      Self.keep(&halves, key, known)
      return known
    }
  }

  func keep(_ form: [UInt8], for uri: UnsafeBufferPointer<UInt8>) {
    let key = Array(uri)
    halves.withLock { Self.keep(&$0, key, form) }
  }

  private static func keep(_ halves: inout Halves, _ key: [UInt8], _ form: [UInt8]) {
    if halves.newer.count >= halfMax {
      halves.older = halves.newer
      halves.newer = [:]
    }
    halves.newer[key] = form
  }

  var count: Int { halves.withLock { $0.newer.count + $0.older.count } }
}
