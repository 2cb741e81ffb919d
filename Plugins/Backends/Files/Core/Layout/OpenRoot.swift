import FilesShims
import Glibc
import PluginAPI

/// The directory, made when it is missing, and held alone: two nodes that write to one directory would not know of each
/// other's units.
final class OpenRoot: Sendable {
  /// Holds what is the node's own; hidden, so that no record is in it.
  static let ownName = ".backplane"
  /// Of the layout of names, stamps and log; in `.backplane/format`.
  static let format = 1
  /// How long a lock may take that an instance before this one, or a child that was just started, still holds.
  private static let lockWaitMs = 2_000

  let tree: Tree
  /// The filesystem that everything must be on.
  let device: dev_t
  private let root: Descriptor
  private let own: Descriptor
  private let lock: Descriptor
  private let stagingDirectory: Descriptor
  private let logFile: Descriptor

  var staging: Int32 { stagingDirectory.number }
  var log: Int32 { logFile.number }
  var logPath: String { "\(tree.path)/\(Self.ownName)/log" }
  var stagingPath: String { "\(tree.path)/\(Self.ownName)/staging" }

  init(_ settings: FilesSettings) throws(FilesProblem) {
    let path = settings.path
    root = try Self.openRoot(path, settings.modes)
    tree = Tree(descriptor: root.number, path: path, modes: settings.modes)
    own = try Self.makeDirectory(Self.ownName, in: root.number, tree)
    lock = try Self.takeLock(own.number, tree)
    try Self.checkFormat(own.number, tree)
    stagingDirectory = try Self.makeDirectory("staging", in: own.number, tree)
    logFile = try Self.open("log", O_RDWR | O_CREAT, in: own.number, tree)
    try Self.emptyStaging(stagingDirectory.number, tree)
    device = try Self.checkFilesystem(stagingDirectory.number, tree)
  }

  // MARK: Opening

  private static func openRoot(_ path: String, _ modes: FileModes) throws(FilesProblem) -> Descriptor {
    if mkdir(path, modes.directory) == 0 {
      _ = modes.widen(AT_FDCWD, path, modes.directory)
    } else if errno != EEXIST {
      let error = errno
      guard error == ENOENT else { throw FilesProblem(error, "making", path) }
      let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
      throw FilesProblem(
        .unavailable(
          "\(path) cannot be made because the directory \(parent.isEmpty ? "/" : parent) is not there; make it, or "
            + "correct url"), path: path)
    }
    let number = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if number >= 0 { return Descriptor(number) }
    guard errno == ENOTDIR else { throw FilesProblem(errno, "opening", path) }
    throw FilesProblem(
      .unavailable("\(path) is not a directory; give another url, or move the file out of the way"), path: path)
  }

  private static func makeDirectory(
    _ name: String, in directory: Int32, _ tree: Tree
  ) throws(FilesProblem) -> Descriptor {
    if mkdirat(directory, name, 0o700) != 0, errno != EEXIST {
      throw FilesProblem(errno, "writing", "\(tree.path)/\(name)")
    }
    return try open(name, O_RDONLY | O_DIRECTORY, in: directory, tree)
  }

  private static func open(
    _ name: String, _ flags: Int32, in directory: Int32, _ tree: Tree
  ) throws(FilesProblem) -> Descriptor {
    let number = files_open_beneath(directory, name, flags, flags & O_CREAT != 0 ? 0o600 : 0)
    if number >= 0 { return Descriptor(number) }
    guard errno == ENOSYS else { throw FilesProblem(errno, "opening", "\(tree.path)/\(name)") }
    throw FilesProblem(
      .unavailable(
        "the files backend needs openat2, which this system does not offer to the node; it takes Linux 5.6 and a sandbox "
          + "that allows it"), path: tree.path)
  }

  private static func takeLock(_ own: Int32, _ tree: Tree) throws(FilesProblem) -> Descriptor {
    let lock = try open("lock", O_RDWR | O_CREAT, in: own, tree)
    var waitedMs = 0
    while files_lock(lock.number) != 0 {
      guard errno == EWOULDBLOCK || errno == EINTR else {
        throw FilesProblem(errno, "locking", "\(tree.path)/\(ownName)/lock")
      }
      guard waitedMs < lockWaitMs else {
        var text = [UInt8](repeating: 0, count: 20)
        let count = pread(lock.number, &text, text.count, 0)
        let holder = String(decoding: text.prefix(max(0, count)), as: UTF8.self).prefix { $0.isNumber }
        throw FilesProblem(
          .unavailable(
            "\(tree.path) is in use by \(holder.isEmpty ? "another process" : "process \(holder)"); one directory serves "
              + "one slot of one node, so give another url or stop that one", retryAfterMs: 1_000), path: tree.path)
      }
      usleep(10_000)
      waitedMs += 10
    }
    let text = "\(getpid())\n"
    if ftruncate(lock.number, 0) != 0 || pwrite(lock.number, text, text.utf8.count, 0) != text.utf8.count {
      throw FilesProblem(errno, "writing", "\(tree.path)/\(ownName)/lock")
    }
    return lock
  }

  private static func checkFormat(_ own: Int32, _ tree: Tree) throws(FilesProblem) {
    let path = "\(tree.path)/\(ownName)/format"
    let file = try open("format", O_RDWR | O_CREAT, in: own, tree)
    var text = [UInt8](repeating: 0, count: 16)
    let count = pread(file.number, &text, text.count, 0)
    if count < 0 { throw FilesProblem(errno, "reading", path) }
    if count == 0 {
      let text = "\(format)\n"
      guard pwrite(file.number, text, text.utf8.count, 0) == text.utf8.count, fsync(file.number) == 0 else {
        throw FilesProblem(errno, "writing", path)
      }
      return
    }
    let found = Int(String(decoding: text[..<count], as: UTF8.self).prefix { $0.isNumber })
    guard let found, found <= format else {
      throw FilesProblem(
        Failure(
          code: BP_FAILED_PRECONDITION,
          "\(path) says layout \(found.map(String.init) ?? "?") and this plugin knows up to \(format); use the newer "
            + "plugin that wrote it, or give another url"), path: path)
    }
  }

  // MARK: What a crash left, and what the filesystem can do

  private static func emptyStaging(_ staging: Int32, _ tree: Tree) throws(FilesProblem) {
    try DirectoryNames.each(of: staging, FilesProblem(EIO, "reading", "\(tree.path)/\(ownName)/staging")) { name, _ in
      _ = Tree.withName(name) { unlinkat(staging, $0, 0) }
    }
  }

  /// The layout keeps a record's time in its file's, and tells `a` from `A`.
  private static func checkFilesystem(_ staging: Int32, _ tree: Tree) throws(FilesProblem) -> dev_t {
    let name = "Probe"
    let number = openat(staging, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard number >= 0 else { throw FilesProblem(errno, "writing", "\(tree.path)/\(ownName)/staging") }
    defer {
      close(number)
      unlinkat(staging, name, 0)
    }
    let wanted = Stamp(timestampMs: 1_700_000_000_001, version: 1_700_000_000_001 << 20 | 16).time
    var times = [wanted, wanted]
    var status = stat()
    guard futimens(number, &times) == 0, fstat(number, &status) == 0 else {
      throw FilesProblem(errno, "writing", "\(tree.path)/\(ownName)/staging")
    }
    func refuse(_ reason: String) throws(FilesProblem) {
      throw FilesProblem(
        Failure(
          code: BP_FAILED_PRECONDITION,
          "the filesystem of \(tree.path) \(reason); put the directory on a local Linux filesystem"), path: tree.path)
    }
    if status.st_mtim.tv_sec != wanted.tv_sec || status.st_mtim.tv_nsec != wanted.tv_nsec {
      try refuse("does not keep the time of a file to the nanosecond")
    }
    if faccessat(staging, "probe", F_OK, 0) == 0 { try refuse("takes names that differ in case for one") }
    return status.st_dev
  }
}
