import Glibc
import Synchronization

/// A server that cannot be started, or does not do what a test needs of it.
public struct ServerProblem: Error, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}

/// A process of somebody else's program, run as an unprivileged user, that ends when the test process ends, however that
/// happens.
final class ServerProcess: Sendable {
  let pid: pid_t
  private let status = Mutex<Int32?>(nil)

  /// Runs `arguments` (the first is the program's absolute path). Output and errors are appended to `log`.
  ///
  /// - `user`: whose process it is when the tests run as root; ignored otherwise.
  /// - `lastSignal`: what it gets when this process dies.
  init(_ arguments: [String], user: String, log: String, lastSignal: String = "KILL") throws {
    var words = ["/usr/bin/setpriv", "--pdeathsig", lastSignal]
    if getuid() == 0 { words += ["--reuid", user, "--regid", user, "--clear-groups"] }
    words += ["--"] + arguments
    let found = Spawner.shared.spawn(words, log: log)
    guard found > 0 else { throw ServerProblem("\(arguments[0]) could not be started (error \(-found))") }
    pid = found
  }

  var isRunning: Bool { status(waits: false) == nil }

  /// Waits for its end and gives the raw status.
  @discardableResult
  func waitUntilExit() -> Int32 { status(waits: true)! }

  private func status(waits: Bool) -> Int32? {
    status.withLock { status in
      if let status { return status }
      var raw: Int32 = 0
      var result: pid_t = 0
      repeat { result = waitpid(pid, &raw, waits ? 0 : WNOHANG) } while result == -1 && errno == EINTR
      if result == pid { status = raw }
      return status
    }
  }

  func signal(_ number: Int32) {
    status.withLock { if $0 == nil { _ = kill(pid, number) } }
  }

  /// Runs a program to its end; throws with what it printed when it fails.
  static func run(_ arguments: [String], user: String, log: String) throws {
    let status = try ServerProcess(arguments, user: user, log: log).waitUntilExit()
    guard status == 0 else { throw ServerProblem("\(arguments[0]) failed (\(status)):\n\(text(of: log))") }
  }

  static func text(of file: String) -> String {
    guard let handle = fopen(file, "r") else { return "" }
    defer { fclose(handle) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = fread(&buffer, 1, buffer.count, handle)
      if count == 0 { return String(decoding: bytes, as: UTF8.self) }
      bytes += buffer[..<count]
    }
  }
}

/// Starts processes on one thread that never ends: the signal of a parent's death comes when the thread that started the
/// child ends.
private final class Spawner: @unchecked Sendable {
  // @unchecked: everything is touched under the mutex.
  static let shared = Spawner()

  private struct Order {
    var words: [String]
    var log: String
    var result: pid_t?
  }

  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var order: Order?

  private init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(changed, nil)
    var thread = pthread_t()
    let error = pthread_create(
      &thread, nil,
      { context in Unmanaged<Spawner>.fromOpaque(context!).takeUnretainedValue().run() },
      Unmanaged.passRetained(self).toOpaque())
    precondition(error == 0, "a thread could not be made")
  }

  private func run() -> Never {
    pthread_mutex_lock(mutex)
    while true {
      while order == nil || order?.result != nil { pthread_cond_wait(changed, mutex) }
      order!.result = Self.start(order!)
      pthread_cond_broadcast(changed)
    }
  }

  func spawn(_ words: [String], log: String) -> pid_t {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while order != nil { pthread_cond_wait(changed, mutex) }
    order = Order(words: words, log: log, result: nil)
    pthread_cond_broadcast(changed)
    while order?.result == nil { pthread_cond_wait(changed, mutex) }
    let result = order!.result!
    order = nil
    pthread_cond_broadcast(changed)
    return result
  }

  private static func start(_ order: Order) -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, order.log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    // What tests have open must not be kept open by a server.
    for descriptor in Int32(3)..<1_024 { posix_spawn_file_actions_addclose(&actions, descriptor) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // A group of its own: what a terminal sends to the tests is not for the server.
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
    let arguments: [UnsafeMutablePointer<CChar>?] = order.words.map { strdup($0) } + [nil]
    let variables = ["PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"]
    let environment: [UnsafeMutablePointer<CChar>?] = variables.map { strdup($0) } + [nil]
    defer { for text in arguments + environment { free(text) } }
    var pid: pid_t = 0
    let error = posix_spawn(&pid, order.words[0], &actions, &attributes, arguments, environment)
    return error == 0 ? pid : -error
  }
}
