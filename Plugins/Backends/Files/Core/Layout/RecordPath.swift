import PluginAPI

/// Where the record of a URI lies: the directory, relative to the root, and the stem of the file's name.
struct RecordPath {
  /// A step on the way to a record.
  struct Step: Equatable {
    enum Rank: UInt8 {
      // In the order of a scan: a record before what lies below it.
      case record
      case directory
      case continuation
    }

    var stem: [UInt8]
    var rank: Rank
  }

  /// From the root to the record; the last one is the record itself.
  let steps: [Step]
  /// Without a slash at the end.
  let directory: [UInt8]

  var stem: [UInt8] { steps[steps.count - 1].stem }

  func file(_ content: Content) -> [UInt8] { RecordName.file(stem, content) }

  /// nil: the URI is not `scheme://authority/path`.
  init?(_ uri: BorrowedBytes) {
    guard let steps = Self.steps(uri), let last = steps.last, last.rank == .record else { return nil }
    self.steps = steps
    directory = Self.path(steps.dropLast())
  }

  /// The way to what a text names that may end within a URI: complete segments only, and what is left of the text. The
  /// last step of the result is a directory.
  static func directories(of prefix: BorrowedBytes) -> (steps: [Step], textCount: Int) {
    guard let end = prefix.lastIndex(of: UInt8(ascii: "/")), let all = steps(BorrowedBytes(rebasing: prefix[...end]))
    else { return ([], 0) }
    // What was parsed ends with a slash, so its last step is an empty segment.
    return (Array(all.dropLast()), end + 1)
  }

  /// The path of directories, relative to the root.
  static func path(_ steps: some Collection<Step>) -> [UInt8] {
    var path: [UInt8] = []
    for step in steps {
      if !path.isEmpty { path.append(UInt8(ascii: "/")) }
      path += RecordName.directory(step.stem, isContinuation: step.rank == .continuation)
    }
    return path
  }

  private static func steps(_ uri: BorrowedBytes) -> [Step]? {
    guard let colon = uri.firstIndex(of: UInt8(ascii: ":")), uri.count >= colon + 3,
      uri[colon + 1] == UInt8(ascii: "/"), uri[colon + 2] == UInt8(ascii: "/"), isScheme(uri[..<colon])
    else { return nil }
    var steps = [Step(stem: Array(uri[..<colon]), rank: .directory)]
    for segment in uri[(colon + 3)...].split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
      if steps.count > 1, steps[steps.count - 1].rank == .record { steps[steps.count - 1].rank = .directory }
      let stems = RecordName.stems(of: segment)
      for (index, stem) in stems.enumerated() {
        steps.append(Step(stem: stem, rank: index + 1 < stems.count ? .continuation : .record))
      }
    }
    return steps
  }

  /// Whether a directory of the root can hold records. The one that ext4 keeps at the top of a filesystem does not.
  static func isScheme(_ text: some Collection<UInt8>) -> Bool {
    guard let first = text.first, (0x61...0x7a).contains(first), text.count <= RecordName.stemSizeBytesMax,
      !text.elementsEqual("lost+found".utf8)
    else { return false }
    return text.allSatisfy { byte in
      switch byte {
      case 0x61...0x7a, 0x30...0x39, UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."): true
      default: false
      }
    }
  }
}

extension RecordPath.Step: Comparable {
  /// The order of a scan.
  static func < (left: RecordPath.Step, right: RecordPath.Step) -> Bool {
    left.stem == right.stem
      ? left.rank.rawValue < right.rank.rawValue : left.stem.lexicographicallyPrecedes(right.stem)
  }
}
