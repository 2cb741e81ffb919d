import BackendSupport
import CSQLite
import Glibc
import PluginAPI

/// What SQLite said, and to which file.
struct SQLiteProblem: StoreProblem {
  /// The extended result code.
  var code: Int32
  var text: String
  var path: String

  init(code: Int32, text: String, path: String) {
    self.code = code
    self.text = text
    self.path = path
  }

  init(_ handle: OpaquePointer?, path: String) {
    self.init(
      code: sqlite3_extended_errcode(handle), text: String(cString: sqlite3_errmsg(handle)), path: path)
  }

  var primaryCode: Int32 { code & 0xff }

  var concernsAll: Bool {
    switch primaryCode {
    case SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_RANGE: false
    default: true
    }
  }

  var leavesReads: Bool {
    switch primaryCode {
    case SQLITE_BUSY, SQLITE_LOCKED, SQLITE_FULL, SQLITE_READONLY, SQLITE_NOMEM: true
    default: false
    }
  }

  var failure: Failure {
    switch primaryCode {
    case SQLITE_BUSY, SQLITE_LOCKED:
      return .unavailable(
        "\(path) was locked by somebody else for longer than busy_timeout_ms; see who has it open (fuser \(path)) or "
          + "raise busy_timeout_ms", retryAfterMs: 1_000)
    case SQLITE_FULL:
      return .exhausted("the disk that holds \(path) is full; make room there", retryAfterMs: 10_000)
    case SQLITE_READONLY:
      return .unavailable(
        "\(path) cannot be written (\(text)); check the owner and mode of the file and of its directory, and that the "
          + "filesystem is mounted for writing")
    case SQLITE_CORRUPT:
      return Failure(
        code: BP_DATA_LOSS,
        "\(path) is damaged (\(text)); stop the node, keep a copy, and restore a backup or try `sqlite3 \(path) .recover`"
      )
    case SQLITE_NOTADB:
      return Failure(
        code: BP_DATA_LOSS, "\(path) is not a SQLite database; give another url, or move the file out of the way")
    case SQLITE_CANTOPEN, SQLITE_PERM: return .unavailable(cannotOpen)
    case SQLITE_IOERR:
      return .unavailable(
        "reading or writing \(path) failed (\(text), code \(code)); check the disk and the kernel's log")
    case SQLITE_TOOBIG: return .invalid("the record is larger than SQLite can keep (1,000,000,000 bytes)")
    case SQLITE_NOMEM: return .exhausted("SQLite had no memory for \(path); lower cache_size_bytes or readers")
    default: return .internal("SQLite failed on \(path): \(text) (code \(code))")
    }
  }

  private var cannotOpen: String {
    let directory = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    var status = stat()
    if stat(directory.isEmpty ? "/" : directory, &status) != 0 {
      return "\(path) cannot be opened because the directory \(directory) is not there; make it, or correct url"
    }
    if stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
      return "\(path) cannot be opened because it is a directory; write the file's name after it in url"
    }
    return "\(path) cannot be opened (\(text)); check the owner and mode of the file and of \(directory)"
  }
}
