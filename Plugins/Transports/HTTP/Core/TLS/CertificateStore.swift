import Glibc
import NIOSSL
import PluginAPI
import Synchronization
import TransportShims

/// The certificate that new connections are shown, and the thread that looks whether its files have changed.
///
/// Connections keep what they began with, so nothing is dropped. Files that are written one after the other may be seen
/// half done: only a certificate and a key that belong together are taken, until then the old ones stay, and health says
/// so.
final class CertificateStore: @unchecked Sendable {
  // @unchecked: `thread` is written before anyone else sees the object and read by `stop` alone, which runs once (guarded
  // by `isStopped`); everything else is constant, atomic or in a Mutex.
  private struct State {
    var identity: TLSIdentity
    var stamps: [FileStamp?]
  }

  private let settings: TLSSettings
  private let context: Context
  private let state: Mutex<State>
  private var thread = pthread_t()
  private let wakeReader: CInt
  private let wakeWriter: CInt
  private let isStopped = Atomic<Bool>(false)

  /// Starts the thread. Reads the files: they may have changed since the configuration was looked at.
  init(_ settings: TLSSettings, context: Context) throws {
    self.settings = settings
    self.context = context
    // Before the files are read, so that what changes meanwhile is read again.
    let stamps = settings.files.map { FileStamp($0) }
    state = Mutex(State(identity: try TLSIdentity.read(settings), stamps: stamps))
    var (reader, writer): (CInt, CInt) = (-1, -1)
    guard transport_pipe(&reader, &writer) == 0 else {
      throw Failure.unavailable("no pipe could be made for the thread that watches certificates (errno \(errno))")
    }
    (wakeReader, wakeWriter) = (reader, writer)
    let code = pthread_create(
      &thread, nil,
      { context in
        Unmanaged<CertificateStore>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
    guard code == 0 else {
      Unmanaged.passUnretained(self).release()
      for descriptor in [wakeReader, wakeWriter] { close(descriptor) }
      throw Failure.unavailable("the thread that watches certificates could not be started (error \(code))")
    }
    sayHealth(problem: nil)
  }

  /// For the next handshake. Any thread.
  var current: NIOSSLContext { state.withLock { $0.identity.context } }

  /// Seconds since 1970. Any thread.
  var notValidAfter: Int { state.withLock { $0.identity.notValidAfter } }

  /// Joins the thread: a moment. Once is enough; more do nothing.
  func stop() {
    guard !isStopped.exchange(true, ordering: .acquiringAndReleasing) else { return }
    var byte: UInt8 = 0
    write(wakeWriter, &byte, 1)
    pthread_join(thread, nil)
    close(wakeReader)
    close(wakeWriter)
  }

  private func run() {
    transport_name_thread("http-tls")
    while true {
      var watched = pollfd(fd: wakeReader, events: Int16(POLLIN), revents: 0)
      let ready = poll(&watched, 1, CInt(settings.certificateCheckIntervalMs))
      if ready < 0, errno != EINTR { return }
      if watched.revents != 0 { return }
      look()
    }
  }

  private func look() {
    let stamps = settings.files.map { FileStamp($0) }
    guard stamps != state.withLock({ $0.stamps }) else { return sayHealth(problem: nil) }
    do {
      let identity = try TLSIdentity.read(settings)
      state.withLock { $0 = State(identity: identity, stamps: stamps) }
      context.log.info(
        "new connections are shown the certificate that was put in place",
        ["file": settings.certificateFile, "expires": HTTPDate.text(secondsSince1970: identity.notValidAfter)])
      sayHealth(problem: nil)
    } catch {
      // Not kept as seen: the next look reads again, whatever changes.
      let reason = error.problems.map(\.message).joined(separator: " ")
      sayHealth(
        problem: "the certificate was changed and cannot be used, the former one is still shown: \(reason)")
    }
  }

  private let lastSaid = Mutex<String?>(nil)

  /// Says how the certificate is, when that is new.
  private func sayHealth(problem: String?) {
    let warning = state.withLock { $0.identity }.warning(settings, nowSeconds: time(nil))
    let message = problem ?? warning
    let said = lastSaid.withLock { said -> String? in
      defer { said = message }
      return said
    }
    guard message != said else { return }
    if let message {
      context.log.warning(message)
      context.health(.degraded, message)
    } else {
      context.health(.healthy)
    }
  }
}

/// By what a change of a file is seen, symbolic links followed.
struct FileStamp: Equatable, Sendable {
  let device: UInt
  let inode: UInt
  let sizeBytes: Int
  let modifiedSeconds: Int
  let modifiedNanoseconds: Int
  let changedSeconds: Int
  let changedNanoseconds: Int

  /// Nil: there is no such file.
  init?(_ path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    device = UInt(status.st_dev)
    inode = UInt(status.st_ino)
    sizeBytes = Int(status.st_size)
    (modifiedSeconds, modifiedNanoseconds) = (status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
    (changedSeconds, changedNanoseconds) = (status.st_ctim.tv_sec, status.st_ctim.tv_nsec)
  }
}
