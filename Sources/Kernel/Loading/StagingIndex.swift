import Foundation

/// Which content a dropped file had when it was last staged, so that a restart does not copy and hash what has not
/// changed. Kept in the staging directory, which is the kernel's own (mode 0700). Losing it costs time only.
struct StagingIndex {
  private struct Entry: Codable, Equatable {
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

  private let path: String
  private var entries: [String: Entry]

  init(stagingDirectory: String) {
    path = stagingDirectory + "/index.json"
    let data = FileManager.default.contents(atPath: path)
    entries = data.flatMap { try? JSONDecoder().decode([String: Entry].self, from: $0) } ?? [:]
  }

  /// The content of a file that has not changed since it was remembered.
  func contentHash(_ candidate: PluginCandidate) -> String? {
    guard let entry = entries[candidate.path], entry == Entry(candidate.identity, entry.contentHash) else { return nil }
    return entry.contentHash
  }

  /// Keeps these and forgets the rest; written when something differs.
  mutating func remember(_ staged: [(candidate: PluginCandidate, contentHash: String)]) {
    let new = Dictionary(
      staged.map { ($0.candidate.path, Entry($0.candidate.identity, $0.contentHash)) }, uniquingKeysWith: { $1 })
    guard new != entries else { return }
    entries = new
    guard let data = try? JSONEncoder().encode(new) else { return }
    try? data.write(to: URL(fileURLWithPath: path), options: .atomic)
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
