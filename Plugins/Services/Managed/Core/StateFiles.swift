import Glibc

/// Files in the instance's state directory. A file is there as a whole or not at all, also after a power failure. Blocks.
struct StateFiles: Sendable {
  let directory: String

  init(_ directory: String) { self.directory = directory }

  func path(_ name: String) -> String { "\(directory)/\(name)" }

  /// Nil when there is no such file, or none that can be read; at most `sizeBytesMax` bytes.
  func read(_ name: String, sizeBytesMax: Int = 8 << 20) -> [UInt8]? {
    try? Self.read(path: path(name), sizeBytesMax: sizeBytesMax)
  }

  /// Writes under a temporary name, makes it durable and renames it. Folders in `name` are made.
  func write(_ name: String, _ bytes: [UInt8], mode: mode_t = 0o600) throws(Trouble) {
    if let slash = name.lastIndex(of: "/") {
      let folder = path(String(name[..<slash]))
      guard mkdir(folder, 0o700) == 0 || errno == EEXIST else { throw Self.trouble("make the folder", folder) }
    }
    let target = path(name)
    // No plugin and no drop-in: the kernel looks at neither.
    let temporary = target + ".tmp"
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)
    guard descriptor >= 0 else { throw Self.trouble("write", target) }
    var isWhole = fchmod(descriptor, mode) == 0
    var written = 0
    while isWhole, written < bytes.count {
      let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + written, bytes.count - written) }
      if count > 0 { written += count } else if errno != EINTR { isWhole = false }
    }
    isWhole = isWhole && fsync(descriptor) == 0
    let failure = errno
    close(descriptor)
    guard isWhole, rename(temporary, target) == 0 else {
      if !isWhole { errno = failure }
      let trouble = Self.trouble("write", target)
      unlink(temporary)
      throw trouble
    }
    syncFolder(of: target)
  }

  func remove(_ name: String) {
    if unlink(path(name)) == 0 { syncFolder(of: path(name)) }
  }

  func exists(_ name: String) -> Bool { access(path(name), F_OK) == 0 }

  /// The names in a folder, sorted.
  func names(in folder: String) -> [String] {
    guard let handle = opendir(path(folder)) else { return [] }
    defer { closedir(handle) }
    var names: [String] = []
    while let entry = readdir(handle) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// Reads a regular file of anybody's.
  static func read(path: String, sizeBytesMax: Int) throws(Trouble) -> [UInt8] {
    // A pipe without a writer must not hold the thread.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw trouble("read", path) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw trouble("read", path) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw Trouble("\(path) is no file") }
    guard status.st_size <= sizeBytesMax else { throw Trouble("\(path) is larger than \(sizeBytesMax) bytes") }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count == 0 { return bytes }
      guard count > 0 else {
        if errno == EINTR { continue }
        throw trouble("read", path)
      }
      bytes += buffer[..<count]
      guard bytes.count <= sizeBytesMax else { throw Trouble("\(path) is larger than \(sizeBytesMax) bytes") }
    }
  }

  private func syncFolder(of path: String) {
    guard let slash = path.lastIndex(of: "/") else { return }
    let descriptor = open(String(path[..<slash]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
  }

  private static func trouble(_ verb: String, _ path: String) -> Trouble {
    Trouble("cannot \(verb) \(path): \(String(cString: strerror(errno)).lowercased())")
  }
}
