import Glibc
import PluginAPI

/// One file of a record.
struct RecordFile {
  var content: Content
  var stamp: Stamp
  var time: timespec
  var sizeBytes: Int
  /// A note beside it has the stamp.
  var isNoted: Bool
}

/// What is there of a record. One file, but for a moment, after a crash, or when a person puts a second one there: then
/// the JSON counts.
struct RecordState {
  var json: RecordFile?
  var bytes: RecordFile?

  static let absent = RecordState()

  var current: RecordFile? { json ?? bytes }

  subscript(content: Content) -> RecordFile? {
    get { content == .json ? json : bytes }
    set { if content == .json { json = newValue } else { bytes = newValue } }
  }
}

extension Tree {
  /// What is there of a record in its directory.
  func state(of path: RecordPath, in directory: Int32) throws(FilesProblem) -> RecordState {
    RecordState(
      json: try file(path, .json, in: directory), bytes: try file(path, .bytes, in: directory))
  }

  private func file(_ path: RecordPath, _ content: Content, in directory: Int32) throws(FilesProblem) -> RecordFile? {
    let name = path.file(content)
    var status = stat()
    let error: Int32 = Self.withName(name) { fstatat(directory, $0, &status, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno }
    if error == ENOENT { return nil }
    if error != 0 { throw problem(error, "reading", path.directory + [UInt8(ascii: "/")] + name) }
    // Somebody's directory is no record, but it is in the way of one.
    if status.st_mode & S_IFMT == S_IFDIR {
      throw problem(EISDIR, "reading", path.directory + [UInt8(ascii: "/")] + name)
    }
    return file(content, name, status, in: directory)
  }

  /// A file as a record, or nil when it is none: a link, a pipe, a device.
  func file(_ content: Content, _ name: [UInt8], _ status: stat, in directory: Int32) -> RecordFile? {
    guard status.st_mode & S_IFMT == S_IFREG else { return nil }
    var file = RecordFile(
      content: content, stamp: Stamp(status.st_mtim), time: status.st_mtim, sizeBytes: Int(status.st_size),
      isNoted: status.st_mtim.tv_nsec % 1_000_000 == Stamp.noted)
    if file.isNoted, let note = note(of: name, in: directory), note.isAbout(status) { file.stamp = note.stamp }
    return file
  }

  private func note(of name: [UInt8], in directory: Int32) -> StampNote? {
    let number = Self.withName(StampNote.name(of: name)) { openat(directory, $0, Self.readFlags) }
    guard number >= 0 else { return nil }
    defer { close(number) }
    var text = [UInt8](repeating: 0, count: StampNote.sizeBytesMax)
    let count = read(number, &text, text.count)
    return count > 0 ? StampNote(String(decoding: text[..<count], as: UTF8.self)) : nil
  }

  /// Never waits for the other end of a pipe, and never over a link.
  static let readFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY
}
