import Glibc
import PluginAPI

/// What a directory has in it.
enum DirectoryNames {
  enum Kind {
    case file
    case directory
    case other
  }

  /// Calls `body` for every name but `.` and `..`, in no order. `directory` stays open.
  static func each(
    of directory: Int32, _ problem: @autoclosure () -> FilesProblem, _ body: (BorrowedBytes, Kind) -> Void
  ) throws(FilesProblem) {
    // A descriptor of its own: reading moves it, and closedir closes it.
    let number = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard number >= 0, let stream = fdopendir(number) else {
      var failed = problem()
      failed.number = errno
      if number >= 0 { close(number) }
      throw failed
    }
    defer { closedir(stream) }
    while true {
      errno = 0
      guard let entry = readdir(stream) else {
        if errno == 0 { return }
        var failed = problem()
        failed.number = errno
        throw failed
      }
      withUnsafePointer(to: &entry.pointee.d_name) { name in
        let start = UnsafeRawPointer(name).assumingMemoryBound(to: UInt8.self)
        let bytes = BorrowedBytes(
          start: start, count: strlen(UnsafeRawPointer(name).assumingMemoryBound(to: CChar.self)))
        if bytes[0] == UInt8(ascii: "."), bytes.count == 1 || bytes.count == 2 && bytes[1] == UInt8(ascii: ".") {
          return
        }
        body(bytes, kind(Int32(entry.pointee.d_type), directory, start))
      }
    }
  }

  private static func kind(_ type: Int32, _ directory: Int32, _ name: UnsafePointer<UInt8>) -> Kind {
    switch type {
    case Int32(DT_REG): return .file
    case Int32(DT_DIR): return .directory
    case Int32(DT_UNKNOWN):
      // Not every filesystem says it here.
      var status = stat()
      let isKnown = UnsafeRawPointer(name).withMemoryRebound(to: CChar.self, capacity: 1) {
        fstatat(directory, $0, &status, AT_SYMLINK_NOFOLLOW) == 0
      }
      guard isKnown else { return .other }
      return status.st_mode & S_IFMT == S_IFREG ? .file : status.st_mode & S_IFMT == S_IFDIR ? .directory : .other
    default: return .other
    }
  }
}
