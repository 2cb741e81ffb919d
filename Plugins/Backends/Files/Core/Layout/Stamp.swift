import Glibc

/// A record's time and version, and how a file carries them.
///
/// A version of the kernel's is the time in milliseconds, shifted, with a counter in the low 20 bits. A modification time
/// is milliseconds with up to 999,999 nanoseconds. So the file's modification time says both, `cp -p`, `rsync -a` and
/// `tar --format=posix` keep both, and a file that a person edits has a time and a version that nobody gave before.
/// Stamps that do not fit (a clock that was set back, another kernel's numbers) are in a note beside the file, which
/// `noted` nanoseconds announce.
struct Stamp: Equatable {
  var timestampMs: UInt64
  var version: UInt64

  /// What the nanoseconds below the millisecond are when a note says more.
  static let noted = 999_999
  /// What ext4 can keep: until the year 2446.
  private static let timestampMsMax: UInt64 = 15_032_385_534_999

  init(timestampMs: UInt64, version: UInt64) {
    self.timestampMs = timestampMs
    self.version = version
  }

  /// What a modification time says by itself.
  init(_ time: timespec) {
    timestampMs = time.tv_sec < 0 ? 0 : UInt64(time.tv_sec) * 1_000 + UInt64(time.tv_nsec / 1_000_000)
    version = timestampMs << 20 | UInt64(time.tv_nsec % 1_000_000)
  }

  var needsNote: Bool {
    timestampMs > Self.timestampMsMax || version >> 20 != timestampMs || version & 0xf_ffff >= UInt64(Self.noted)
  }

  /// The modification time of a file with this stamp.
  var time: timespec {
    let shownMs = min(timestampMs, Self.timestampMsMax)
    let nanoseconds = needsNote ? Self.noted : Int(version & 0xf_ffff)
    return timespec(tv_sec: Int(shownMs / 1_000), tv_nsec: Int(shownMs % 1_000) * 1_000_000 + nanoseconds)
  }
}

/// What a note says: a stamp, and of which file. When the file was changed since, the note means nothing.
struct StampNote {
  var stamp: Stamp
  var time: timespec
  var sizeBytes: Int

  static let sizeBytesMax = 256

  /// The name of the note of a file; hidden, so that it is nobody's record.
  static func name(of file: [UInt8]) -> [UInt8] { [UInt8(ascii: ".")] + file + Array(".stamp".utf8) }

  var text: String {
    "ts_ms \(stamp.timestampMs)\nversion \(stamp.version)\n"
      + "of_time \(time.tv_sec) \(time.tv_nsec)\nof_size_bytes \(sizeBytes)\n"
  }

  init(_ stamp: Stamp, time: timespec, sizeBytes: Int) {
    self.stamp = stamp
    self.time = time
    self.sizeBytes = sizeBytes
  }

  init?(_ text: String) {
    let numbers = text.split(whereSeparator: { $0 == " " || $0 == "\n" }).compactMap { UInt64($0) }
    guard numbers.count == 5, let seconds = Int(exactly: numbers[2]), let nanoseconds = Int(exactly: numbers[3]),
      let size = Int(exactly: numbers[4])
    else { return nil }
    stamp = Stamp(timestampMs: numbers[0], version: numbers[1])
    time = timespec(tv_sec: seconds, tv_nsec: nanoseconds)
    sizeBytes = size
  }

  func isAbout(_ status: stat) -> Bool {
    status.st_mtim.tv_sec == time.tv_sec && status.st_mtim.tv_nsec == time.tv_nsec && Int(status.st_size) == sizeBytes
  }
}
