import Glibc
import Logging
import SystemShims

/// journald, when standard error goes there.
public final class Journal: Sendable {
  /// Where journald listens for entries with fields.
  static let standardPath = "/run/systemd/journal/socket"

  /// The journal of this process; nil when standard error goes somewhere else.
  public static let ofThisProcess: Journal? =
    isOurs(getenv("JOURNAL_STREAM").map { String(cString: $0) }) ? Journal() : nil

  private let descriptor: Int32
  private let path: String

  /// - Parameter path: of journald's socket; a test has one of its own.
  init(path: String = Journal.standardPath) {
    self.path = path
    descriptor = bp_shim_datagram_socket()
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Whether JOURNAL_STREAM names the file that `descriptor` is: the variable alone says little, because whoever
  /// redirects standard error inherits it.
  static func isOurs(_ stream: String?, descriptor: Int32 = STDERR_FILENO) -> Bool {
    guard let parts = stream?.split(separator: ":", omittingEmptySubsequences: false), parts.count == 2,
      let device = UInt64(parts[0]), let inode = UInt64(parts[1])
    else { return false }
    var facts = stat()
    return fstat(descriptor, &facts) == 0 && UInt64(facts.st_dev) == device && UInt64(facts.st_ino) == inode
  }

  /// Hands over one entry; false when journald does not take it now. Never waits. Any thread.
  func send(_ entry: [UInt8]) -> Bool {
    guard descriptor >= 0 else { return false }
    return bp_shim_journal_send(descriptor, path, entry, entry.count) == 0
  }

  /// What begins a line for journald on standard error: `<4>` (sd-daemon(3)).
  static func prefix(_ level: Logger.Level) -> String { "<\(priority(level))>" }

  /// The severity of syslog(3).
  static func priority(_ level: Logger.Level) -> Int {
    switch level {
    case .critical: 2
    case .error: 3
    case .warning: 4
    case .notice: 5
    case .info: 6
    case .debug, .trace: 7
    }
  }
}

/// An event in journald's native form: `NAME=value` lines, and for a value with a line break the name, the size in 8
/// bytes and the value.
struct JournalEntry {
  private(set) var bytes: [UInt8] = []

  /// `summary` is what `journalctl` shows: the message with its fields. Each field is also there by itself, the slot as
  /// BACKPLANE_SLOT.
  init(_ level: Logger.Level, summary: String, fields: [(String, String)]) {
    append("MESSAGE", summary)
    append("PRIORITY", "\(Journal.priority(level))")
    append("SYSLOG_IDENTIFIER", "backplane")
    append("BACKPLANE_LEVEL", level.rawValue)
    for (key, value) in fields { append(Self.name(key), value) }
  }

  /// journald takes 64 of `A`-`Z`, `0`-`9` and `_`, and drops an entry's field with any other name.
  static func name(_ key: String) -> String {
    var name = "BACKPLANE_"
    for scalar in key.unicodeScalars.prefix(64 - name.count) {
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9": name += String(scalar).uppercased()
      default: name += "_"
      }
    }
    return name
  }

  private mutating func append(_ name: String, _ value: String) {
    bytes += Array(name.utf8)
    let value = Array(value.utf8)
    if value.contains(0x0a) {
      bytes.append(0x0a)
      withUnsafeBytes(of: UInt64(value.count).littleEndian) { bytes += Array($0) }
    } else {
      bytes.append(UInt8(ascii: "="))
    }
    bytes += value
    bytes.append(0x0a)
  }
}
