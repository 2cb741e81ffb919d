import Foundation
import Synchronization

/// Which content a dropped file had when it was last staged, so that a restart does not copy and hash what has not
/// changed. Kept in the staging directory, which is the kernel's own (mode 0700). Losing it costs time only.
///
/// What it says of a copy is taken for true without reading the copy again. So the file names only copies that have
/// reached the disk; bringing them there is not waited for, since nobody needs it before the next start.
final class StagingIndex: Sendable {
  private struct Entry: Codable, Equatable, Sendable {
    var device: UInt64
    var inode: UInt64
    var sizeBytes: Int64
    var modifiedNs: Int64
    var changedNs: Int64
    var contentHash: String

    init(_ identity: FileIdentity, _ contentHash: String) {
      device = identity.device
      inode = identity.inode
      sizeBytes = identity.sizeBytes
      modifiedNs = identity.modifiedNs
      changedNs = identity.changedNs
      self.contentHash = contentHash
    }
  }

  private struct State {
    var entries: [String: Entry]
    /// Content that has reached the disk.
    var synchronised: Set<String>
    /// The thread that writes is under way, and will look again.
    var isBeingWritten = false
  }

  let directory: String
  private let state: Mutex<State>

  init(stagingDirectory: String) {
    directory = stagingDirectory
    let data = FileManager.default.contents(atPath: stagingDirectory + "/index.json")
    let entries = data.flatMap { try? JSONDecoder().decode([String: Entry].self, from: $0) } ?? [:]
    state = Mutex(State(entries: entries, synchronised: Set(entries.values.map(\.contentHash))))
  }

  /// The content of a file that has not changed since it was remembered.
  func contentHash(_ candidate: PluginCandidate) -> String? {
    let entry = state.withLock { $0.entries[candidate.path] }
    guard let entry, entry == Entry(candidate.identity, entry.contentHash) else { return nil }
    return entry.contentHash
  }

  /// Keeps these and forgets the rest; written soon when something differs.
  func remember(_ staged: [(candidate: PluginCandidate, contentHash: String)]) {
    let new = Dictionary(
      staged.map { ($0.candidate.path, Entry($0.candidate.identity, $0.contentHash)) }, uniquingKeysWith: { $1 })
    let begins = state.withLock { state -> Bool in
      guard new != state.entries else { return false }
      state.entries = new
      defer { state.isBeingWritten = true }
      return !state.isBeingWritten
    }
    guard begins else { return }
    if let thread = Thread.start(name: "bp-staged", { [self] in write() }) {
      pthread_detach(thread)
    } else {
      write()
    }
  }

  private func write() {
    var written: [String: Entry]?
    while let (entries, synchronised) = next(after: written) {
      let new = Set(entries.values.map(\.contentHash)).subtracting(synchronised)
      if Staging(directory: directory).synchronise(new), let data = try? JSONEncoder().encode(entries) {
        try? data.write(to: URL(fileURLWithPath: directory + "/index.json"), options: .atomic)
        state.withLock { $0.synchronised = Set(entries.values.map(\.contentHash)) }
      }
      written = entries
    }
  }

  /// What is to be written; nil when it has been.
  private func next(after written: [String: Entry]?) -> (entries: [String: Entry], synchronised: Set<String>)? {
    state.withLock { state in
      guard state.entries != written else {
        state.isBeingWritten = false
        return nil
      }
      return (state.entries, state.synchronised)
    }
  }
}

extension Staging {
  /// The copy of a file that was staged before with this content and has not changed since; nil when it must be staged
  /// again. Nothing is read but what the system knows of both files.
  func recall(_ candidate: PluginCandidate, contentHash: String) -> StagedPlugin? {
    let path = "\(directory)/\(contentHash).so"
    var source = stat()
    var copy = stat()
    guard stat(candidate.realPath, &source) == 0, FileIdentity(source) == candidate.identity,
      lstat(path, &copy) == 0, copy.st_mode == S_IFREG | 0o500, copy.st_uid == geteuid(),
      Int64(copy.st_size) == candidate.identity.sizeBytes
    else { return nil }
    return StagedPlugin(
      candidate: candidate, path: path, contentHash: contentHash, sizeBytes: Int64(copy.st_size),
      sourceOwner: UInt32(source.st_uid), sourceMode: UInt32(source.st_mode), wasAlreadyStaged: true)
  }
}
