import Foundation
import Glibc

/// The directory of a journal: `<what>/<slot>` of the state directory.
enum JournalDirectory {
  /// Makes it and its parent, when they are not there.
  static func make(_ directory: String) throws(JournalProblem) {
    let parent = String(directory[..<(directory.lastIndex(of: "/") ?? directory.startIndex)])
    for path in [parent, directory] where mkdir(path, 0o700) != 0 && errno != EEXIST {
      throw JournalProblem("make", path)
    }
    synchronise(parent)
  }

  /// A name for the next segment. Named by time, so that their order is that of their names, also of those of the process
  /// before.
  static func nextName() -> String {
    "\(Clock.wallMs() * 1_000_000 + Clock.monotonicNs() % 1_000_000)\(ownSuffix)"
  }

  /// What the names of this process' segments end in.
  static var ownSuffix: String { "-\(getpid())\(JournalSegment.suffix)" }

  /// The names in the directories below `parent`, by slot, but for empty ones. None of an empty path.
  static func slots(in parent: String) -> [String: [String]] {
    guard !parent.isEmpty else { return [:] }
    var found: [String: [String]] = [:]
    for slot in (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? [] {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(parent)/\(slot)")) ?? []
      if !names.isEmpty { found[slot] = names }
    }
    return found
  }

  static func synchronise(_ directory: String) {
    let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
  }
}
