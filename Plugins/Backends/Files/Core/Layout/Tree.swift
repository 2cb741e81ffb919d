import FilesShims
import Glibc
import PluginAPI

/// A descriptor that closes itself.
struct Descriptor: ~Copyable {
  let number: Int32
  init(_ number: Int32) { self.number = number }
  deinit { close(number) }
}

/// The directory that holds everything. Paths are relative to it, and nothing that is opened leads out of it or over a
/// symbolic link.
struct Tree: Sendable {
  /// Of the root; open as long as the store.
  let descriptor: Int32
  /// Of the root, for messages.
  let path: String
  let modes: FileModes

  /// Paths longer than the system takes are resolved in parts.
  private static let partSizeBytesMax = 3_800
  /// For names in a directory, which need not be readable.
  static let directoryFlags = files_directory_flags()

  /// A problem with something below the root.
  func problem(_ number: Int32, _ action: String, _ relative: [UInt8]) -> FilesProblem {
    FilesProblem(
      number, action, relative.isEmpty ? path : "\(path)/\(String(decoding: relative, as: UTF8.self))")
  }

  // MARK: Opening

  /// The descriptor, or a negated errno.
  func open(_ relative: [UInt8], _ flags: Int32, mode: mode_t = 0) -> Int32 {
    if relative.count <= Self.partSizeBytesMax { return Self.open(descriptor, relative[...], flags, mode) }
    var at = descriptor
    var rest = relative[...]
    defer { if at != descriptor { close(at) } }
    while rest.count > Self.partSizeBytesMax {
      // A name has at most 255 bytes, so there is a slash.
      let end = rest.prefix(Self.partSizeBytesMax).lastIndex(of: UInt8(ascii: "/"))!
      let next = Self.open(at, rest[..<end], Self.directoryFlags, 0)
      if next < 0 { return next }
      if at != descriptor { close(at) }
      at = next
      rest = rest[(end + 1)...]
    }
    return Self.open(at, rest, flags, mode)
  }

  /// For names in it; nil when it is not there.
  func directory(_ relative: [UInt8]) throws(FilesProblem) -> Descriptor? {
    let number = open(relative.isEmpty ? [UInt8(ascii: ".")] : relative, Self.directoryFlags)
    if number >= 0 { return Descriptor(number) }
    if number == -ENOENT || number == -ENOTDIR { return nil }
    throw problem(-number, "opening", relative)
  }

  private static func open(_ at: Int32, _ path: ArraySlice<UInt8>, _ flags: Int32, _ mode: mode_t) -> Int32 {
    withName(path) { name in
      let number = files_open_beneath(at, name, flags, mode)
      return number < 0 ? -errno : number
    }
  }

  // MARK: Directories

  /// Makes what is missing of a path of directories, and opens the last.
  func makeDirectory(_ relative: [UInt8]) throws(FilesProblem) -> Descriptor {
    if let there = try directory(relative) { return there }
    var at = descriptor
    defer { if at != descriptor { close(at) } }
    var end = 0
    for name in relative.split(separator: UInt8(ascii: "/")) {
      end += name.count
      let error: Int32 = Self.withName(name) { name in
        if mkdirat(at, name, modes.directory) == 0 { return modes.widen(at, name, modes.directory) }
        return errno == EEXIST ? 0 : errno
      }
      if error != 0 { throw problem(error, "making", Array(relative[..<end])) }
      let next = Self.open(at, name, Self.directoryFlags, 0)
      if next < 0 { throw problem(-next, "opening", Array(relative[..<end])) }
      if at != descriptor { close(at) }
      at = next
      end += 1
    }
    let made = at
    at = descriptor
    return Descriptor(made)
  }

  /// Removes a directory and those above that are empty now. What cannot be removed stays: it is in use, or somebody
  /// else's.
  func removeEmptyDirectories(_ relative: [UInt8]) {
    var path = relative[...]
    while !path.isEmpty {
      let parent = path.lastIndex(of: UInt8(ascii: "/")).map { path[..<$0] } ?? path[..<0]
      guard let above = try? directory(Array(parent)) else { return }
      let isRemoved = Self.withName(path.dropFirst(parent.isEmpty ? 0 : parent.count + 1)) { name in
        unlinkat(above.number, name, AT_REMOVEDIR) == 0
      }
      if !isRemoved { return }
      path = parent
    }
  }

  /// Calls `body` with the bytes and a zero after them.
  @inline(__always)
  static func withName<R>(_ bytes: some Collection<UInt8>, _ body: (UnsafePointer<CChar>) -> R) -> R {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: bytes.count + 1) { buffer in
      let end = buffer.initialize(fromContentsOf: bytes)
      buffer[end] = 0
      return UnsafeRawPointer(buffer.baseAddress!).withMemoryRebound(to: CChar.self, capacity: end + 1) { body($0) }
    }
  }
}

/// Who may read what the node writes; only its owner may change it.
struct FileModes: Sendable {
  var file: mode_t = 0o600
  var directory: mode_t = 0o700

  /// The process's umask may have taken bits away.
  func widen(_ at: Int32, _ name: UnsafePointer<CChar>, _ mode: mode_t) -> Int32 {
    if mode & 0o077 == 0 { return 0 }
    return fchmodat(at, name, mode, 0) == 0 ? 0 : errno
  }
}
