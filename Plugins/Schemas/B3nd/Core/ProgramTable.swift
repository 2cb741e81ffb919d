import Glibc
import PluginAPI

/// The programs of an instance and their rules.
struct ProgramTable: Sendable {
  private struct Entry {
    let key: [UInt8]
    let rule: Rule
  }

  /// By length and then by bytes, to be searched in halves.
  private let entries: [Entry]

  init(_ programs: [(key: String, rule: Rule)]) {
    entries = programs.map { Entry(key: Array($0.key.utf8), rule: $0.rule) }
      .sorted { left, right in left.key.withUnsafeBufferPointer { Self.compare($0, right.key) } < 0 }
  }

  /// The rule of a program, or nil for one that is not served. Allocates nothing.
  func rule(of program: BorrowedBytes) -> Rule? {
    var range = 0..<entries.count
    while !range.isEmpty {
      let middle = (range.lowerBound + range.upperBound) / 2
      let order = Self.compare(program, entries[middle].key)
      if order == 0 { return entries[middle].rule }
      range = order < 0 ? range.lowerBound..<middle : (middle + 1)..<range.upperBound
    }
    return nil
  }

  private static func compare(_ left: BorrowedBytes, _ right: [UInt8]) -> Int {
    guard left.count == right.count else { return left.count - right.count }
    return right.withUnsafeBufferPointer { right in
      guard let left = left.baseAddress, let other = right.baseAddress else { return 0 }
      return Int(memcmp(left, other, right.count))
    }
  }
}
