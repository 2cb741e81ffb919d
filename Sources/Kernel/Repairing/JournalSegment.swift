import Glibc

/// One file of a repair journal or of a peer's queue: records one after the other, written at its end by one thread at a
/// time and read from its beginning by others.
final class JournalSegment: @unchecked Sendable {
  // @unchecked: `writtenSize` is only touched by whoever appends, one at a time; `descriptor` and `path` never change.

  /// A new file is begun beyond this.
  static let sizeMax = 8 << 20
  static let suffix = ".journal"
  private static let magic = Array("BackplaneRepair1".utf8)

  let path: String
  private let descriptor: Int32
  /// Up to here everything is whole and on the disk.
  private(set) var writtenSize: Int

  /// A new, empty file; on the disk when this returns, unless `isSynchronised` is false.
  init(creating path: String, isSynchronised: Bool = true) throws(JournalProblem) {
    self.path = path
    descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw JournalProblem("make", path) }
    writtenSize = 0
    do throws(JournalProblem) { try write([JournalSegment.magic], isSynchronised: isSynchronised) } catch {
      close(descriptor)
      unlink(path)
      throw error
    }
  }

  /// A file that is there. What a crash left half written at its end is cut off: nobody was told that it was recorded.
  ///
  /// - Parameters:
  ///   - cutsDamage: what comes after a damaged record is cut off too, in the place of refusing the file.
  ///   - observe: is told of each record that is whole, in order.
  init(
    opening path: String, cutsDamage: Bool = false, observe: (_ record: MissedUnit, _ size: Int) -> Void
  ) throws(JournalProblem) {
    self.path = path
    descriptor = open(path, O_RDWR | O_CLOEXEC)
    guard descriptor >= 0 else { throw JournalProblem("open", path) }
    var status = stat()
    fstat(descriptor, &status)
    writtenSize = Int(status.st_size)
    do throws(JournalProblem) {
      var at = 0
      // An empty file is one whose making a crash interrupted.
      if writtenSize >= JournalSegment.magic.count {
        guard try bytes(0, JournalSegment.magic.count) == JournalSegment.magic else {
          throw JournalProblem("\(path) is no repair journal of this version")
        }
        at = JournalSegment.magic.count
        while let (unit, size) = try unit(at: at) {
          observe(unit, size)
          at += size
        }
      }
      if at < writtenSize {
        if !cutsDamage, try isFollowedByARecord(at) {
          throw JournalProblem("\(path) is damaged at byte \(at), and there are records after that")
        }
        guard ftruncate(descriptor, off_t(at)) == 0, fsync(descriptor) == 0 else { throw JournalProblem("mend", path) }
        writtenSize = at
      }
      if at == 0 { try write([JournalSegment.magic]) }
    } catch {
      close(descriptor)
      throw error
    }
  }

  deinit { close(descriptor) }

  static var firstRecord: Int { magic.count }

  /// Appends records and waits for the disk, unless `isSynchronised` is false: then the system has them, and `synchronise`
  /// brings them to the disk. When this throws, none of them counts: the file is cut back.
  func write(_ records: [[UInt8]], isSynchronised: Bool = true) throws(JournalProblem) {
    var size = writtenSize
    for record in records {
      var done = 0
      while done < record.count {
        let count = record.withUnsafeBytes {
          pwrite(descriptor, $0.baseAddress! + done, record.count - done, off_t(size + done))
        }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { throw cutBack("write") }
        done += count
      }
      size += record.count
    }
    guard !isSynchronised || fdatasync(descriptor) == 0 else { throw cutBack("write") }
    writtenSize = size
  }

  /// Waits until the disk has what was written before. Any thread.
  func synchronise() throws(JournalProblem) {
    guard fdatasync(descriptor) == 0 else { throw JournalProblem("synchronise", path) }
  }

  private func cutBack(_ what: String) -> JournalProblem {
    let problem = JournalProblem(what, path)
    ftruncate(descriptor, off_t(writtenSize))
    return problem
  }

  /// The record at a place, and how many bytes it takes; nil when there is no whole one.
  func unit(at place: Int) throws(JournalProblem) -> (unit: MissedUnit, size: Int)? {
    guard let (payloadSize, checksum) = MissedUnit.head(try bytes(place, MissedUnit.headSize)) else { return nil }
    let payload = try bytes(place + MissedUnit.headSize, payloadSize)
    guard payload.count == payloadSize, payload.withUnsafeBufferPointer(MissedUnit.checksum) == checksum,
      let unit = MissedUnit(payload: payload)
    else { return nil }
    return (unit, MissedUnit.headSize + payloadSize)
  }

  /// A record that is not whole is the torn end of the file, unless the place where the next one begins has a whole one:
  /// then the disk has lost something that counted.
  private func isFollowedByARecord(_ place: Int) throws(JournalProblem) -> Bool {
    guard let (payloadSize, _) = MissedUnit.head(try bytes(place, MissedUnit.headSize)) else { return false }
    return try unit(at: place + MissedUnit.headSize + payloadSize) != nil
  }

  /// At most `count` bytes: fewer at the end of the file.
  private func bytes(_ place: Int, _ count: Int) throws(JournalProblem) -> [UInt8] {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw JournalProblem("read", path) }
    let count = max(0, min(count, Int(status.st_size) - place))
    guard count > 0 else { return [] }
    var failed = false
    let found = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      while filled < count {
        let got = pread(descriptor, buffer.baseAddress! + filled, count - filled, off_t(place + filled))
        if got < 0, errno == EINTR { continue }
        if got <= 0 {
          failed = got < 0
          return
        }
        filled += got
      }
    }
    if failed { throw JournalProblem("read", path) }
    return found
  }
}

/// Why a repair journal cannot be used.
struct JournalProblem: Error {
  let sentence: String

  init(_ sentence: String) { self.sentence = sentence }

  /// What could not be done to which file; errno says why.
  init(_ what: String, _ path: String) {
    let code = errno
    sentence = "cannot \(what) \(path): \(String(cString: strerror(code)))"
  }
}
