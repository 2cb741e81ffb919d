import BackendSupport
import Glibc
import PluginAPI

/// Reads single records. Any thread.
struct RecordReader: Sendable {
  let tree: Tree
  let gate: PlacementGate
  let sizeBytesMax: Int

  func find(_ uri: BorrowedBytes, isWithoutData: Bool) throws(FilesProblem) -> FoundRecord? {
    guard let path = RecordPath(uri) else { return nil }
    // Only looking up is of one moment: the file that was opened stays whole, whatever is moved to its name.
    let opened = try gate.reading { () throws(FilesProblem) in try open(path) }
    guard let (file, number) = opened else { return nil }
    let descriptor = Descriptor(number)
    var found = FoundRecord(
      timestampMs: file.stamp.timestampMs, version: file.stamp.version, content: file.content.rawValue, data: nil)
    if isWithoutData || file.sizeBytes == 0 { return found }
    guard file.sizeBytes <= sizeBytesMax else {
      throw FilesProblem(
        .exhausted(
          "\(name(path, file.content)) has \(file.sizeBytes) bytes, and record_size_bytes_max is \(sizeBytesMax); raise it"
        ), path: tree.path, isOfRequest: true)
    }
    found.data = try read(descriptor.number, file.sizeBytes, path, file.content)
    return found
  }

  /// The file of a record and a descriptor that the caller owns.
  private func open(_ path: RecordPath) throws(FilesProblem) -> (RecordFile, Int32)? {
    for content in [Content.json, .bytes] {
      let name = path.file(content)
      let number = tree.open(path.directory + [UInt8(ascii: "/")] + name, Tree.readFlags)
      switch -number {
      case ENOENT, ENOTDIR: continue
      // A link, or a socket, is no record.
      case ELOOP, ENXIO, ENODEV: continue
      case 1...: throw tree.problem(-number, "opening", path.directory + [UInt8(ascii: "/")] + name)
      default: break
      }
      var status = stat()
      guard fstat(number, &status) == 0 else {
        let error = errno
        close(number)
        throw tree.problem(error, "reading", path.directory + [UInt8(ascii: "/")] + name)
      }
      if let file = try record(content, name, status, path) { return (file, number) }
      close(number)
    }
    return nil
  }

  private func record(
    _ content: Content, _ name: [UInt8], _ status: stat, _ path: RecordPath
  ) throws(FilesProblem) -> RecordFile? {
    // Only a note needs the directory.
    guard status.st_mtim.tv_nsec % 1_000_000 == Stamp.noted else { return tree.file(content, name, status, in: -1) }
    guard let directory = try tree.directory(path.directory) else { return nil }
    return tree.file(content, name, status, in: directory.number)
  }

  /// All bytes; fewer when somebody shortens the file meanwhile.
  private func read(
    _ descriptor: Int32, _ size: Int, _ path: RecordPath, _ content: Content
  ) throws(FilesProblem) -> UnsafeMutableBufferPointer<UInt8> {
    let data = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: size)
    var count = 0
    while count < size {
      let got = Glibc.read(descriptor, data.baseAddress! + count, size - count)
      if got < 0 {
        if errno == EINTR { continue }
        let error = errno
        data.deallocate()
        throw tree.problem(error, "reading", path.directory + [UInt8(ascii: "/")] + path.file(content))
      }
      if got == 0 { break }
      count += got
    }
    return UnsafeMutableBufferPointer(rebasing: data[..<count])
  }

  private func name(_ path: RecordPath, _ content: Content) -> String {
    tree.problem(0, "", path.directory + [UInt8(ascii: "/")] + path.file(content)).path
  }
}
