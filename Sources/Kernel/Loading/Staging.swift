import Glibc
import SystemShims

/// The private, content-addressed copy of a plugin file: what is verified, probed and opened. The dropped file itself is
/// never opened by the loader (overwriting it would kill the process, and renaming over it would load the old code).
public struct StagedPlugin: Equatable, Sendable {
  /// The dropped file, as discovery named it.
  public let candidate: PluginCandidate
  /// `<staging directory>/<contentHash>.so`, mode 0500.
  public let path: String
  /// SHA-256 of the content, 64 lower-case hexadecimal digits.
  public let contentHash: String
  public let sizeBytes: Int64
  /// Owner and mode of the dropped file, from the very descriptor that was copied.
  public let sourceOwner: UInt32
  public let sourceMode: UInt32
  /// The same content was staged before and has been verified; nothing was written.
  public let wasAlreadyStaged: Bool
}

/// Copies plugin files to a directory of the kernel's own. Any number of threads and processes may stage at once: every
/// copy has a temporary name of its own, and the final name says the content.
public struct Staging: Sendable {
  /// The setting `staging_directory`: on a filesystem that allows execution (on Debian `/run` does not).
  public let directory: String
  /// The setting `plugin_size_bytes_max`.
  public let pluginSizeBytesMax: Int64

  /// Called with what has been copied so far (bytes), after each piece and once more before the final check: for tests
  /// that change the file meanwhile.
  package var copyObserver: (@Sendable (Int64) -> Void)?

  private static let pieceSizeBytes = 256 * 1_024

  public init(directory: String, pluginSizeBytesMax: Int64 = 256 * 1_024 * 1_024) {
    self.directory = directory
    self.pluginSizeBytesMax = max(1, pluginSizeBytesMax)
  }

  /// Makes the directory when it is absent and checks that plugins can be loaded from it. For start-up, so that a wrong
  /// setting is a sentence then and not at the first plugin; `stage` does the same again.
  public func prepare() throws(Refusal) {
    _ = try openDirectory()
  }

  /// Blocks on the disk: for the kernel's control thread, never for an event loop. The copy may not have reached the disk
  /// when this returns (`synchronise`): a power cut may leave anything under its name, which is why a name is never
  /// trusted without the content, save through the index.
  /// - Throws: a refusal with phase `staged`. Whatever happens, no temporary file stays behind.
  public func stage(_ candidate: PluginCandidate) throws(Refusal) -> StagedPlugin {
    let folder = try openDirectory()
    let shown = Wording.printable(candidate.path)
    guard let source = OwnedDescriptor(path: candidate.realPath, flags: O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
    else {
      let code = errno
      if code == ENOENT || code == ELOOP { throw replaced(candidate) }
      throw refusal(
        candidate, Refusal.Code.unreadable,
        "\(shown) cannot be opened for reading: \(Wording.system(code)); give the kernel's user permission to read it.")
    }
    var before = stat()
    guard fstat(source.raw, &before) == 0, before.st_mode & S_IFMT == S_IFREG,
      FileIdentity(before) == candidate.identity
    else { throw replaced(candidate) }
    guard Int64(before.st_size) <= pluginSizeBytesMax else {
      throw refusal(
        candidate, Refusal.Code.tooLarge,
        "\(shown) is \(before.st_size) bytes and at most \(pluginSizeBytesMax) are taken; strip it, or raise the setting "
          + "plugin_size_bytes_max.")
    }
    var temporary = try TemporaryFile(in: folder.raw, staging: self, candidate: candidate)
    let (hash, copiedBytes) = try copy(source.raw, to: temporary.descriptor, candidate: candidate)
    copyObserver?(copiedBytes)
    var after = stat()
    var named = stat()
    // By descriptor and by name: on a network filesystem the two may be cached apart.
    guard fstat(source.raw, &after) == 0, FileIdentity(after) == candidate.identity,
      copiedBytes == candidate.identity.sizeBytes,
      // Through the symlinks again: a swing of `..data` in the middle counts as a replacement.
      stat(candidate.path, &named) == 0, FileIdentity(named) == candidate.identity
    else { throw replaced(candidate) }

    let name = "\(hash).so"
    func staged(already: Bool) -> StagedPlugin {
      StagedPlugin(
        candidate: candidate, path: "\(directory)/\(name)", contentHash: hash, sizeBytes: copiedBytes,
        sourceOwner: UInt32(before.st_uid), sourceMode: UInt32(before.st_mode), wasAlreadyStaged: already)
    }
    if isStagedAndSound(name, in: folder.raw, hash: hash, sizeBytes: copiedBytes) { return staged(already: true) }
    guard fchmod(temporary.descriptor, 0o500) == 0 else { throw failure(candidate, errno, doing: "written to") }
    guard temporary.rename(to: name) else { throw failure(candidate, errno, doing: "renamed in") }
    return staged(already: false)
  }

  /// Brings copies to the disk, with their names. False when that cannot be said of one of them.
  func synchronise(_ contentHashes: some Sequence<String>) -> Bool {
    guard let folder = OwnedDescriptor(path: directory, flags: O_RDONLY | O_DIRECTORY) else { return false }
    for hash in contentHashes {
      let raw = openat(folder.raw, "\(hash).so", O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
      guard raw >= 0 else { return false }
      let copy = OwnedDescriptor(raw)
      guard fsync(copy.raw) == 0 else { return false }
    }
    return fsync(folder.raw) == 0
  }

  /// Removes copies that nobody uses and temporary files that a crash left: without this the directory only grows.
  /// Removing the file of an image that is still mapped is harmless, but whoever has staged a file and not yet opened it
  /// needs it; hence the age.
  /// - Parameters:
  ///   - contentHashes: copies to keep however old they are.
  ///   - olderThanMs: how long ago a file was staged or staged again, at least.
  /// - Returns: how many files were removed.
  @discardableResult
  public func removeUnused(keeping contentHashes: Set<String>, olderThanMs: Int64 = 3_600_000) throws(Refusal) -> Int {
    let folder = try openDirectory()
    guard let stream = opendir(directory) else { return 0 }
    defer { closedir(stream) }
    let oldestNs = Settle.Instant.now().wallNs - min(max(olderThanMs, 0), 1_000_000_000) * 1_000_000
    var unused: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      var facts = stat()
      // Only names that this type makes: a wrong setting must not empty somebody's directory.
      let isCopy = name.hasSuffix(".so") && Self.isContentHash(name.dropLast(3))
      let isTemporary = name.hasPrefix(".") && name.hasSuffix(".part")
      guard isTemporary || (isCopy && !contentHashes.contains(String(name.dropLast(3)))),
        fstatat(folder.raw, name, &facts, AT_SYMLINK_NOFOLLOW) == 0, facts.st_mode & S_IFMT == S_IFREG,
        FileIdentity(facts).modifiedNs <= oldestNs
      else { continue }
      unused.append(name)
    }
    return unused.count { unlinkat(folder.raw, $0, 0) == 0 }
  }

  private static func isContentHash(_ text: Substring) -> Bool {
    text.utf8.count == 64 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }

  // MARK: Copying

  private func copy(
    _ source: Int32, to target: Int32, candidate: PluginCandidate
  ) throws(Refusal) -> (hash: String, copiedBytes: Int64) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.pieceSizeBytes, alignment: 16)
    defer { buffer.deallocate() }
    var hash = SHA256()
    var copiedBytes: Int64 = 0
    while true {
      let count = read(source, buffer.baseAddress!, buffer.count)
      if count < 0 {
        let code = errno
        if code == EINTR { continue }
        throw refusal(
          candidate, Refusal.Code.unreadable,
          "\(Wording.printable(candidate.path)) cannot be read: \(Wording.system(code)); check the disk it is on.")
      }
      if count == 0 { break }
      copiedBytes += Int64(count)
      // A file that grows for as long as it is copied must not fill the disk.
      guard copiedBytes <= candidate.identity.sizeBytes else { throw replaced(candidate) }
      let piece = UnsafeRawBufferPointer(rebasing: buffer[..<count])
      hash.update(piece)
      var writtenBytes = 0
      while writtenBytes < count {
        let written = write(target, piece.baseAddress! + writtenBytes, count - writtenBytes)
        if written < 0 {
          let code = errno
          if code == EINTR { continue }
          throw failure(candidate, code, doing: "written to")
        }
        writtenBytes += written
      }
      copyObserver?(copiedBytes)
    }
    return (hash.finishHexadecimal(), copiedBytes)
  }

  /// Reads the staged file again rather than trusting its name: a crash or a bad disk may have left anything under it.
  private func isStagedAndSound(_ name: String, in folder: Int32, hash: String, sizeBytes: Int64) -> Bool {
    let raw = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    guard raw >= 0 else { return false }
    let existing = OwnedDescriptor(raw)
    var facts = stat()
    guard fstat(existing.raw, &facts) == 0, facts.st_mode & S_IFMT == S_IFREG, Int64(facts.st_size) == sizeBytes,
      facts.st_uid == geteuid(), facts.st_mode & 0o7777 == 0o500
    else { return false }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.pieceSizeBytes, alignment: 16)
    defer { buffer.deallocate() }
    var digest = SHA256()
    while true {
      let count = read(existing.raw, buffer.baseAddress!, buffer.count)
      if count < 0, errno == EINTR { continue }
      if count < 0 { return false }
      if count == 0 {
        // Its age is counted from its last use (see `removeUnused`).
        return futimens(existing.raw, nil) == 0 && digest.finishHexadecimal() == hash
      }
      digest.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
  }

  /// A file that removes itself unless it has been renamed.
  private struct TemporaryFile: ~Copyable {
    let descriptor: Int32
    private let folder: Int32
    private let name: String
    private var isRenamed = false

    init(in folder: Int32, staging: Staging, candidate: PluginCandidate) throws(Refusal) {
      for _ in 0..<16 {
        let name = ".\(String(UInt64.random(in: .min ... .max), radix: 36)).part"
        let raw = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        if raw >= 0 {
          self.descriptor = raw
          self.folder = folder
          self.name = name
          return
        }
        if errno != EEXIST { break }
      }
      throw staging.failure(candidate, errno, doing: "written to")
    }

    mutating func rename(to final: String) -> Bool {
      isRenamed = renameat(folder, name, folder, final) == 0
      return isRenamed
    }

    deinit {
      if !isRenamed { unlinkat(folder, name, 0) }
      close(descriptor)
    }
  }

  // MARK: The directory

  private func openDirectory() throws(Refusal) -> OwnedDescriptor {
    let shown = Wording.printable(directory)
    try makeDirectories()
    guard let folder = OwnedDescriptor(path: directory, flags: O_RDONLY | O_DIRECTORY) else {
      let code = errno
      throw directoryRefusal(
        code == EACCES ? Refusal.Code.stagingForbidden : Refusal.Code.stagingFailed,
        "The staging directory \(shown) cannot be opened: \(Wording.system(code)); "
          + "set staging_directory to a directory that the kernel's user may write to.")
    }
    var facts = stat()
    guard fstat(folder.raw, &facts) == 0 else {
      throw directoryRefusal(
        Refusal.Code.stagingFailed,
        "The staging directory \(shown) cannot be looked at: \(Wording.system(errno)); set staging_directory to another."
      )
    }
    // Whoever can write here decides what code the kernel runs.
    guard facts.st_uid == geteuid() || facts.st_uid == 0, facts.st_mode & 0o022 == 0 else {
      throw directoryRefusal(
        Refusal.Code.stagingUnsafe,
        "The staging directory \(shown) belongs to another user or can be written to by others (owner \(facts.st_uid), "
          + "mode \(String(facts.st_mode & 0o7777, radix: 8))); run chown and chmod 0700 on it, or set staging_directory "
          + "to a private one.")
    }
    var mount = bp_shim_mount_flags()
    if bp_shim_mount_flags(folder.raw, &mount) == 0, mount.no_exec {
      throw directoryRefusal(
        Refusal.Code.stagingNoExec,
        "The staging directory \(shown) is on a filesystem mounted noexec, from which no plugin can be loaded; set "
          + "staging_directory to a directory on one that allows execution.")
    }
    return folder
  }

  private func makeDirectories() throws(Refusal) {
    var facts = stat()
    if stat(directory, &facts) == 0 { return }
    var path = directory.hasPrefix("/") ? "/" : ""
    for part in directory.split(separator: "/") {
      path += part
      if mkdir(path, 0o700) != 0, errno != EEXIST {
        let code = errno
        // A parent may exist where nothing can be made (a read-only root): only the last word counts.
        if stat(path, &facts) != 0 {
          throw directoryRefusal(
            Self.code(code),
            "The staging directory \(Wording.printable(directory)) cannot be made: "
              + "\(Wording.system(code)); make it, or set staging_directory to one that the kernel's user may write to."
          )
        }
      }
      path += "/"
    }
  }

  // MARK: Refusals

  private static func code(_ code: Int32) -> String {
    switch code {
    case ENOSPC, EDQUOT: Refusal.Code.stagingFull
    case EROFS: Refusal.Code.stagingReadOnly
    case EACCES, EPERM: Refusal.Code.stagingForbidden
    default: Refusal.Code.stagingFailed
    }
  }

  private func failure(_ candidate: PluginCandidate, _ code: Int32, doing: String) -> Refusal {
    let folder = Wording.printable(directory)
    let start = "\(Wording.printable(candidate.path)) was not staged: the staging directory \(folder)"
    let sentence =
      switch code {
      case ENOSPC, EDQUOT:
        "\(start) is full (\(Wording.system(code))); free space there or set staging_directory to another disk."
      case EROFS: "\(start) is on a read-only filesystem; set staging_directory to one that can be written to."
      case EACCES, EPERM:
        "\(start) cannot be \(doing) by the kernel's user (\(Wording.system(code))); correct its owner and mode."
      default:
        "\(start) cannot be \(doing): \(Wording.system(code)); check the disk or set staging_directory to another."
      }
    return refusal(candidate, Self.code(code), sentence)
  }

  private func replaced(_ candidate: PluginCandidate) -> Refusal {
    refusal(
      candidate, Refusal.Code.replacedWhileStaged,
      "\(Wording.printable(candidate.path)) was replaced while being staged; it will be taken again when it has settled."
    )
  }

  private func refusal(_ candidate: PluginCandidate, _ code: String, _ sentence: String) -> Refusal {
    Refusal(file: candidate.path, phase: .staged, code: code, sentence: sentence)
  }

  private func directoryRefusal(_ code: String, _ sentence: String) -> Refusal {
    Refusal(file: directory, phase: .staged, code: code, sentence: sentence)
  }
}
