import Glibc

/// Which file it is and whether it has changed: two equal identities of one path are the same bytes, as far as the
/// system can tell without reading them.
public struct FileIdentity: Equatable, Hashable, Codable, Sendable {
  public let device: UInt64
  public let inode: UInt64
  public let sizeBytes: Int64
  /// Last change of the content, nanoseconds since 1970 by the wall clock. Anybody who owns the file can set it.
  public let modifiedNs: Int64
  /// Last change of the inode, nanoseconds since 1970 by the wall clock. Only the system sets it.
  public let changedNs: Int64

  public init(device: UInt64, inode: UInt64, sizeBytes: Int64, modifiedNs: Int64, changedNs: Int64) {
    self.device = device
    self.inode = inode
    self.sizeBytes = sizeBytes
    self.modifiedNs = modifiedNs
    self.changedNs = changedNs
  }

  init(_ facts: stat) {
    self.init(
      device: UInt64(facts.st_dev), inode: UInt64(facts.st_ino), sizeBytes: Int64(facts.st_size),
      modifiedNs: Self.nanoseconds(facts.st_mtim), changedNs: Self.nanoseconds(facts.st_ctim))
  }

  /// A time stamp beyond the year 2262 saturates: some filesystems carry nonsense and that must not trap.
  private static func nanoseconds(_ time: timespec) -> Int64 {
    let (seconds, overflow) = Int64(time.tv_sec).multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return time.tv_sec < 0 ? .min : .max }
    let (sum, overflowsAgain) = seconds.addingReportingOverflow(Int64(time.tv_nsec))
    return overflowsAgain ? .max : sum
  }
}

/// A file that discovery found: where, through which symlinks, and which inode it was then.
public struct PluginCandidate: Equatable, Hashable, Sendable {
  /// Directory as configured, a slash, and the file's name: the name to use in messages.
  public let path: String
  /// The same file without symlinks.
  public let realPath: String
  public let identity: FileIdentity

  public init(path: String, realPath: String, identity: FileIdentity) {
    self.path = path
    self.realPath = realPath
    self.identity = identity
  }

  /// Looks at one path, following symlinks, as `backplane reload --now FILE` and discovery do.
  /// - Throws: `plugin.unreadable` or `plugin.not-regular-file`.
  public init(path: String) throws(Refusal) {
    var facts = stat()
    guard stat(path, &facts) == 0 else {
      let code = errno
      var link = stat()
      let dangling = code == ENOENT && lstat(path, &link) == 0
      throw Refusal(
        file: path, phase: .seen, code: Refusal.Code.unreadable,
        sentence: dangling
          ? "\(Wording.printable(path)) is a symbolic link that points at nothing; point it at a plugin or remove it."
          : "\(Wording.printable(path)) cannot be looked at: \(Wording.system(code)); "
            + "check that it exists and that the kernel's user may reach it.")
    }
    guard facts.st_mode & S_IFMT == S_IFREG else {
      throw Refusal(
        file: path, phase: .seen, code: Refusal.Code.notRegularFile,
        sentence: "\(Wording.printable(path)) is not a regular file; remove it or put a plugin's shared library there.")
    }
    guard let resolved = realpath(path, nil) else {
      throw Refusal(
        file: path, phase: .seen, code: Refusal.Code.unreadable,
        sentence: "\(Wording.printable(path)) cannot be resolved: \(Wording.system(errno)); "
          + "check its symbolic links and the permissions of the directories on the way.")
    }
    defer { free(resolved) }
    self.init(path: path, realPath: String(cString: resolved), identity: FileIdentity(facts))
  }
}

/// An open descriptor that closes itself.
struct OwnedDescriptor: ~Copyable {
  let raw: Int32

  init(_ raw: Int32) { self.raw = raw }

  /// `nil`, with `errno` set, when the file cannot be opened.
  init?(path: String, flags: Int32) {
    let raw = open(path, flags | O_CLOEXEC)
    if raw < 0 { return nil }
    self.raw = raw
  }

  deinit { close(raw) }
}
