import BackendSupport
import Glibc
import PluginAPI

/// What the system said, about which path.
struct FilesProblem: StoreProblem {
  /// errno.
  var number: Int32
  /// "writing", "reading"; what was being done to `path`.
  var action: String
  var path: String
  /// What to say instead of what the number means.
  private var sentence: Failure?
  /// The problem is that of one request.
  private var isOfRequest = false

  init(_ number: Int32, _ action: String, _ path: String) {
    self.number = number
    self.action = action
    self.path = path
  }

  /// A problem that no number of the system's names.
  init(_ failure: Failure, path: String = "", isOfRequest: Bool = false) {
    self.init(0, "", path)
    sentence = failure
    self.isOfRequest = isOfRequest
  }

  var concernsAll: Bool {
    switch number {
    case ELOOP, ENOTDIR, EISDIR, EEXIST, ENAMETOOLONG, EXDEV: false
    default: !isOfRequest
    }
  }

  var leavesReads: Bool {
    switch number {
    case ENOSPC, EDQUOT, EFBIG, EROFS, EACCES, EPERM, EMFILE, ENFILE, ENOMEM: true
    default: false
    }
  }

  var failure: Failure {
    if let sentence { return sentence }
    switch number {
    case ENOSPC, EDQUOT:
      return .exhausted(
        "the filesystem of \(path) is full, or a quota is used up; make room there", retryAfterMs: 10_000)
    case EFBIG:
      return .exhausted(
        "\(path) cannot grow beyond what a file of this process may have; raise the limit (ulimit -f, LimitFSIZE)",
        retryAfterMs: 10_000)
    case EROFS: return .unavailable("\(path) cannot be written because its filesystem is mounted read-only; remount it")
    case EACCES, EPERM:
      return .unavailable(
        "\(action) \(path) is not allowed to user \(geteuid()); check the owner and mode of it and of the directories above"
      )
    case EMFILE, ENFILE:
      return .unavailable(
        "\(path) could not be opened because no descriptor is left; raise the limit (ulimit -n, LimitNOFILE)",
        retryAfterMs: 1_000)
    case ELOOP:
      return .unavailable("\(path) leads over a symbolic link, which is never followed; put the directory itself there")
    case EXDEV:
      return .unavailable(
        "\(path) is on another filesystem than the directory that url names; records are moved into place, so all must be "
          + "on one")
    case ENOTDIR, EISDIR, EEXIST, ENOTEMPTY:
      return .unavailable(
        "\(path) cannot be written because something else has its name or that of a directory above; move that away")
    case ENOENT: return .unavailable("\(path) is gone; somebody removed it or a directory above while the node runs")
    case ENOMEM: return .exhausted("the system had no memory for \(action) \(path)", retryAfterMs: 1_000)
    default:
      return .unavailable(
        "\(action) \(path) failed (\(String(cString: strerror(number)))); check the disk and the kernel's log")
    }
  }
}
