import Glibc

/// Reads small files that a person named: configuration and secrets.
enum ConfigurationFile {
  enum Failure: Error {
    case missing
    case other(String)

    /// The reason as the rest of a sentence: `it does not exist`.
    var reason: String {
      switch self {
      case .missing: "it does not exist"
      case .other(let reason): reason
      }
    }
  }

  /// The whole file, at most `sizeBytesMax` bytes. Refuses what is not a regular file: opening a pipe or a device by
  /// mistake must not hang the start of the node.
  static func read(_ path: String, sizeBytesMax: Int) throws(Failure) -> [UInt8] {
    // Non-blocking, so that opening a named pipe returns and is then refused by its type.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw failure(errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw failure(errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .other("it is not a regular file") }
    guard Int(status.st_size) <= sizeBytesMax else { throw tooLarge(sizeBytesMax) }
    // One byte more than allowed, because the file may grow between fstat and read.
    var bytes = [UInt8](repeating: 0, count: sizeBytesMax + 1)
    var count = 0
    while count < bytes.count {
      let got = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
      if got == 0 { break }
      if got < 0 {
        if errno == EINTR { continue }
        throw failure(errno)
      }
      count += got
    }
    guard count <= sizeBytesMax else { throw tooLarge(sizeBytesMax) }
    bytes.removeLast(bytes.count - count)
    return bytes
  }

  private static func tooLarge(_ sizeBytesMax: Int) -> Failure {
    .other("it is larger than \(sizeBytesMax / 1024) KiB")
  }

  private static func failure(_ number: Int32) -> Failure {
    number == ENOENT ? .missing : .other(String(cString: strerror(number)).lowercased())
  }

  /// `path` made absolute against `base` and freed of `.`, `..` and doubled slashes, by text alone: the file need not
  /// exist yet.
  static func absolute(_ path: String, base: String) -> String {
    var parts: [Substring] = []
    for part in (path.hasPrefix("/") ? path : base + "/" + path).split(separator: "/") where part != "." {
      if part == ".." { _ = parts.popLast() } else { parts.append(part) }
    }
    return "/" + parts.joined(separator: "/")
  }

  /// The folder a path lies in, as text: `.` for a bare name.
  static func directory(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The names in a folder in lexical order of their bytes; nil when there is no such folder.
  static func names(in directory: String) throws(Failure) -> [String]? {
    guard let stream = opendir(directory) else {
      if errno == ENOENT { return nil }
      throw failure(errno)
    }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      names.append(
        withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        })
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }
}
