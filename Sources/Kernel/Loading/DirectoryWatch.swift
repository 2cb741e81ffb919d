import Glibc
import Synchronization
import SystemShims

/// Watches directories (never files) and says when they ought to be looked at again.
///
/// A hint is only a hint: it may come late, once for many changes, or for nothing. The receiver looks at the directories
/// itself. A directory that is absent, renamed, or reached through a symbolic link that is swung is followed: every
/// directory on the way is watched for the next name. What is not seen: a change inside the target of a symlinked file
/// when that lies elsewhere, and a mount over a directory; both want a reload by signal or command.
public final class DirectoryWatch: Sendable {
  public struct Hint: Equatable, Sendable {
    /// The configured directories in which something happened.
    public var directories: Set<String> = []
    /// Events were lost: look at everything.
    public var isRescan = false
    /// Directories that cannot be watched, once each for as long as that lasts.
    public var problems: [Refusal] = []

    public init() {}

    var isEmpty: Bool { directories.isEmpty && !isRescan && problems.isEmpty }
  }

  private let descriptors: WatchDescriptors
  private struct State {
    var thread: pthread_t?
    var isStopped = false
  }
  private let state = Mutex(State())

  /// Begins to watch; what happens after this returns is reported.
  /// - Parameters:
  ///   - directories: absolute or relative to the working directory, which must then not change.
  ///   - quietMs: a burst ends when nothing has happened for so long, 0...1000.
  ///   - burstMs: a burst is reported after so long at the latest, even while it lasts.
  ///   - onHint: called on the watch's own thread, once a burst. It must not block.
  /// - Throws: `directory.unwatched` when the system gives no inotify instance, descriptor or thread.
  public init(
    _ directories: [String], quietMs: Int = 20, burstMs: Int = 200, onHint: @escaping @Sendable (Hint) -> Void
  ) throws(Refusal) {
    let descriptors = WatchDescriptors()
    self.descriptors = descriptors
    guard descriptors.isOpen else { throw Self.unwatchable(directories.first ?? "", descriptors.openError) }
    let loop = WatchLoop(
      descriptors: descriptors, directories: directories, quietMs: min(max(quietMs, 0), 1_000),
      burstMs: min(max(burstMs, 0), 60_000), onHint: onHint)
    // Before the thread runs, so that nothing is missed between this and its first turn.
    loop.arm()
    var thread = pthread_t()
    let context = Unmanaged.passRetained(loop)
    let code = pthread_create(
      &thread, nil,
      { argument in
        bp_shim_name_thread("bp-watch")
        Unmanaged<WatchLoop>.fromOpaque(argument!).takeRetainedValue().run()
        return nil
      }, context.toOpaque())
    guard code == 0 else {
      context.release()
      throw Self.unwatchable(directories.first ?? "", code)
    }
    let started = thread
    state.withLock { $0.thread = started }
  }

  /// Ends the watch and waits for its thread: after it returns, `onHint` is not called again. Any thread, any number of
  /// times; from within `onHint` it only asks for the end, since a thread cannot wait for itself.
  public func stop() {
    let thread = state.withLock { state -> pthread_t? in
      if !state.isStopped {
        state.isStopped = true
        _ = bp_shim_eventfd_signal(descriptors.stopSignal)
      }
      guard let thread = state.thread, pthread_equal(thread, pthread_self()) == 0 else { return nil }
      state.thread = nil
      return thread
    }
    if let thread { pthread_join(thread, nil) }
  }

  deinit {
    stop()
    // Still there only when the last reference went away on the watch's own thread; then nobody will join it.
    if let thread = state.withLock({ $0.thread }) { pthread_detach(thread) }
  }

  static func unwatchable(_ directory: String, _ code: Int32) -> Refusal {
    let remedy =
      switch code {
      case EMFILE: "raise fs.inotify.max_user_instances or the limit of open files"
      case ENOSPC: "raise fs.inotify.max_user_watches"
      case EACCES: "give the kernel's user permission to read it"
      default: "reload by signal or command instead"
      }
    return Refusal(
      file: directory, phase: .seen, code: Refusal.Code.directoryUnwatched,
      sentence: "The directory \(Wording.printable(directory)) cannot be watched for changes: \(Wording.system(code)); "
        + "\(remedy).")
  }
}

/// The two descriptors, closed when neither the watch nor its thread needs them any more.
final class WatchDescriptors: Sendable {
  let inotify: Int32
  let stopSignal: Int32
  /// `errno` of what failed, when `isOpen` is false.
  let openError: Int32

  var isOpen: Bool { inotify >= 0 && stopSignal >= 0 }

  init() {
    errno = 0
    inotify = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
    stopSignal = inotify < 0 ? -1 : bp_shim_eventfd()
    openError = errno
    OwnDescriptors.shared.add(inotify, "the watch of the directories")
    OwnDescriptors.shared.add(stopSignal, "the end of the watch")
  }

  deinit {
    OwnDescriptors.shared.remove(inotify)
    OwnDescriptors.shared.remove(stopSignal)
    if inotify >= 0 { close(inotify) }
    if stopSignal >= 0 { close(stopSignal) }
  }
}
