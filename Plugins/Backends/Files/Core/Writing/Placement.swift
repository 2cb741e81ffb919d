import BackendSupport
import Glibc
import PluginAPI

/// A change of one record, ready to be put in place.
struct Placement {
  var path: RecordPath
  /// What is there when its turn comes.
  var before: RecordState
  /// What is there after; nil: the record goes.
  var file: RecordFile?
  /// The name of the new file in the staging directory.
  var staged: UInt64

  /// One step, so that nobody can see half of it.
  var isOneStep: Bool {
    if before.json?.isNoted == true || before.bytes?.isNoted == true { return false }
    guard let file else { return before.json == nil || before.bytes == nil }
    return !file.isNoted && before[file.content == .json ? .bytes : .json] == nil
  }
}

/// Makes files in the staging directory and moves them to their names.
final class Placer {
  let tree: Tree
  private let staging: Int32
  private let stagingPath: String
  private var stagedCount: UInt64 = 0

  init(_ root: OpenRoot) {
    tree = root.tree
    staging = root.staging
    stagingPath = root.stagingPath
  }

  // MARK: Staging

  /// Writes a new file where nobody looks. `directory` is where it will go: nothing may be left that can fail then.
  func stage(
    _ path: RecordPath, before: RecordState, _ data: BorrowedBytes, _ content: Content, _ stamp: Stamp
  ) throws(FilesProblem) -> Placement {
    stagedCount += 1
    var placement = Placement(path: path, before: before, file: nil, staged: stagedCount)
    let file = RecordFile(
      content: content, stamp: stamp, time: stamp.time, sizeBytes: data.count, isNoted: stamp.needsNote)
    placement.file = file
    do throws(FilesProblem) {
      try write(data, stagedCount, "", stamp.time)
      if file.isNoted {
        var text = StampNote(stamp, time: file.time, sizeBytes: file.sizeBytes).text
        let result = text.withUTF8 { bytes in
          Result { () throws(FilesProblem) in try write(bytes, stagedCount, ".stamp", stamp.time) }
        }
        try result.get()
      }
    } catch {
      discard(placement)
      throw error
    }
    return placement
  }

  private func write(
    _ data: BorrowedBytes, _ number: UInt64, _ suffix: String, _ time: timespec
  ) throws(FilesProblem) {
    let name = "\(number)\(suffix)"
    let descriptor = Descriptor(
      openat(staging, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, tree.modes.file))
    func problem() -> FilesProblem { FilesProblem(errno, "writing", "\(stagingPath)/\(name)") }
    guard descriptor.number >= 0 else { throw problem() }
    var rest = data
    while !rest.isEmpty {
      let count = Glibc.write(descriptor.number, rest.baseAddress!, rest.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw problem()
      }
      rest = BorrowedBytes(rebasing: rest[count...])
    }
    var times = [time, time]
    guard futimens(descriptor.number, &times) == 0 else { throw problem() }
    let error = tree.modes.widen(staging, name, tree.modes.file)
    if error != 0 { throw FilesProblem(error, "writing", "\(stagingPath)/\(name)") }
  }

  /// Forgets a staged file, which may be there or not.
  func discard(_ placement: Placement) {
    guard let file = placement.file else { return }
    unlinkat(staging, "\(placement.staged)", 0)
    if file.isNoted { unlinkat(staging, "\(placement.staged).stamp", 0) }
  }

  // MARK: Placing

  /// In place, for everybody to see. The note goes first, because it says nothing of the file that is there before.
  func place(_ placement: Placement) throws(FilesProblem) {
    let path = placement.path
    guard let file = placement.file else {
      guard let directory = try tree.directory(path.directory) else { return }
      for content in [Content.bytes, .json] { try remove(placement, content, directory.number) }
      tree.removeEmptyDirectories(path.directory)
      return
    }
    // A delete in between may have removed the directory.
    let directory = try tree.makeDirectory(path.directory)
    let name = path.file(file.content)
    if file.isNoted { try move("\(placement.staged).stamp", StampNote.name(of: name), directory.number, path) }
    try move("\(placement.staged)", name, directory.number, path)
    if !file.isNoted, placement.before[file.content]?.isNoted == true {
      try unlink(StampNote.name(of: name), directory.number, path)
    }
    try remove(placement, file.content == .json ? .bytes : .json, directory.number)
  }

  private func remove(_ placement: Placement, _ content: Content, _ directory: Int32) throws(FilesProblem) {
    guard let old = placement.before[content] else { return }
    let name = placement.path.file(content)
    try unlink(name, directory, placement.path)
    if old.isNoted { try unlink(StampNote.name(of: name), directory, placement.path) }
  }

  private func move(_ staged: String, _ name: [UInt8], _ directory: Int32, _ path: RecordPath) throws(FilesProblem) {
    let error: Int32 = Tree.withName(name) { renameat(staging, staged, directory, $0) == 0 ? 0 : errno }
    if error != 0 { throw problem(error, name, path) }
  }

  private func unlink(_ name: [UInt8], _ directory: Int32, _ path: RecordPath) throws(FilesProblem) {
    let error: Int32 = Tree.withName(name) { unlinkat(directory, $0, 0) == 0 ? 0 : errno }
    if error != 0, error != ENOENT { throw problem(error, name, path) }
  }

  private func problem(_ number: Int32, _ name: [UInt8], _ path: RecordPath) -> FilesProblem {
    tree.problem(number, "writing", path.directory + [UInt8(ascii: "/")] + name)
  }
}
