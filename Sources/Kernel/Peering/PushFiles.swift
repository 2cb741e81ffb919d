import Glibc

/// The files of a durable queue: segments of units, and how far the peer has got.
///
/// What is written is in the system's memory when the function returns: it survives the end of this process, however that
/// comes about. `synchronise` brings it to the disk.
final class PushFiles {
  /// One file, and how many of its units the peer does not have.
  final class Segment: @unchecked Sendable {
    // @unchecked: `left` is only touched under the lock of the queue.
    let journal: JournalSegment
    let name: String
    fileprivate var left = 0

    init(_ journal: JournalSegment, _ name: String) {
      self.journal = journal
      self.name = name
    }
  }

  /// Where a unit lies.
  struct Place {
    let segment: Segment
    let offset: Int
  }

  /// A unit that earlier processes have left.
  struct Found {
    let place: Place
    let size: Int
    let timestampMs: UInt64
  }

  static let positionName = "position"
  private static let positionSize = 256

  let directory: String
  private var active: Segment?
  /// Names of the segments that are in use here.
  private var names: Set<String> = []
  private var position: Int32 = -1
  /// Written and perhaps not on the disk.
  private var written: [JournalSegment] = []
  private var hasNewName = false

  init(_ directory: String) throws(JournalProblem) {
    self.directory = directory
    try JournalDirectory.make(directory)
  }

  deinit { if position >= 0 { close(position) } }

  // MARK: Writing

  func append(_ record: [UInt8]) throws(JournalProblem) -> Place {
    if let full = active, full.journal.writtenSize >= JournalSegment.sizeMax {
      active = nil
      drop(full)
    }
    let segment: Segment
    if let active {
      segment = active
    } else {
      let name = JournalDirectory.nextName()
      let journal = try JournalSegment(creating: "\(directory)/\(name)", isSynchronised: false)
      segment = Segment(journal, name)
      active = segment
      names.insert(name)
      hasNewName = true
    }
    let offset = segment.journal.writtenSize
    try segment.journal.write([record], isSynchronised: false)
    if written.last !== segment.journal { written.append(segment.journal) }
    segment.left += 1
    return Place(segment: segment, offset: offset)
  }

  /// The unit at a place is not needed any more.
  func done(_ place: Place) {
    place.segment.left -= 1
    drop(place.segment)
  }

  private func drop(_ segment: Segment) {
    guard segment.left == 0, segment !== active else { return }
    unlink(segment.journal.path)
    names.remove(segment.name)
  }

  /// What comes next begins here, for the process after this one; nil: behind everything that is written.
  func remember(_ first: Place?) {
    let offset = first?.offset ?? active?.journal.writtenSize ?? 0
    guard let name = first?.segment.name ?? active?.name else { return }
    if position < 0 {
      position = open("\(directory)/\(PushFiles.positionName)", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
      guard position >= 0 else { return }
    }
    // One line of always the same size: it is replaced by one system call, whole.
    var line = Array("\(offset) \(name)".utf8)
    guard line.count < PushFiles.positionSize else { return }
    line += Array(repeating: UInt8(ascii: " "), count: PushFiles.positionSize - 1 - line.count) + [UInt8(ascii: "\n")]
    _ = line.withUnsafeBytes { pwrite(position, $0.baseAddress, $0.count, 0) }
  }

  // MARK: The disk

  /// Segments that may not be on the disk yet, and whether the directory may not be; they are the caller's to bring there,
  /// without the queue's lock.
  func takeUnsynchronised() -> (segments: [JournalSegment], directory: String?) {
    defer {
      written = []
      hasNewName = false
    }
    return (written, hasNewName ? directory : nil)
  }

  // MARK: What is there at the start

  /// Takes over what earlier processes have left: every unit that the peer does not have, in order.
  ///
  /// - Parameter problem: is told of what cannot be read; it is left aside under another name.
  func load(_ found: [String], problem: (JournalProblem) -> Void) -> [Found] {
    let last = PushFiles.lastPosition("\(directory)/\(PushFiles.positionName)")
    var units: [Found] = []
    for name in found.sorted() where name.hasSuffix(JournalSegment.suffix) && !names.contains(name) {
      let path = "\(directory)/\(name)"
      // Only what the process that wrote the position has written before it is known to be done.
      if let last, name < last.name, PushFiles.writer(name) == PushFiles.writer(last.name) {
        unlink(path)
        continue
      }
      var read: [(offset: Int, size: Int, timestampMs: UInt64)] = []
      var offset = JournalSegment.firstRecord
      do throws(JournalProblem) {
        let journal = try JournalSegment(opening: path, cutsDamage: true) { unit, size in
          if last == nil || last!.name != name || offset >= last!.offset {
            read.append((offset, size, unit.timestampMs))
          }
          offset += size
        }
        let segment = Segment(journal, name)
        segment.left = read.count
        names.insert(name)
        drop(segment)
        units += read.map {
          Found(place: Place(segment: segment, offset: $0.offset), size: $0.size, timestampMs: $0.timestampMs)
        }
      } catch {
        rename(path, path + ".damaged")
        problem(error)
      }
    }
    return units
  }

  /// The part of a segment's name that says who wrote it.
  private static func writer(_ name: String) -> Substring { name[(name.firstIndex(of: "-") ?? name.startIndex)...] }

  private static func lastPosition(_ path: String) -> (offset: Int, name: String)? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: positionSize)
    let count = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    guard count == positionSize else { return nil }
    let parts = String(decoding: bytes, as: UTF8.self).split(whereSeparator: { $0 == " " || $0 == "\n" })
    guard parts.count == 2, let offset = Int(parts[0]), offset >= 0 else { return nil }
    return (offset, String(parts[1]))
  }

  /// Removes everything.
  func clear() {
    active = nil
    for name in names { unlink("\(directory)/\(name)") }
    names = []
    written = []
    unlink("\(directory)/\(PushFiles.positionName)")
    if position >= 0 { close(position) }
    position = -1
  }
}
