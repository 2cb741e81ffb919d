import Foundation
import Synchronization

/// A real PostgreSQL in a temporary directory, run as the unprivileged user `postgres` when the tests run as root. It
/// listens on a Unix socket and on a free port of 127.0.0.1, and goes, files included, when the object or this process
/// goes.
public final class PostgreSQLServer: Sendable {
  /// How clients prove who they are.
  public enum Authentication: String, Sendable {
    case trust
    case scram = "scram-sha-256"
  }

  /// How a server ends.
  public enum Shutdown: Sendable {
    /// Connections are dropped, transactions rolled back.
    case fast
    /// As if the machine had crashed: it recovers when it starts again.
    case immediate

    var signal: Int32 { self == .fast ? SIGINT : SIGQUIT }
  }

  /// One for the whole test process, without fsync: for tests that are not about durability and leave it running. Make
  /// a database of your own in it.
  public static func shared() throws -> PostgreSQLServer {
    try sharedServer.withLock { server in
      if let server { return server }
      let new = try PostgreSQLServer()
      server = new
      return new
    }
  }

  /// The administrator's password; needed with `.scram` only.
  public static let password = "open sesame/@:%"

  public let directory: String
  public let port: Int
  private let user = "postgres"
  private let authentication: Authentication
  private let settings: [(String, String)]
  private let process = Shared()

  private var dataDirectory: String { "\(directory)/data" }
  private var logFile: String { "\(directory)/log" }
  /// Everything it has logged.
  public var log: String { ServerProcess.text(of: logFile) }

  /// Makes a cluster and starts it.
  ///
  /// - Parameters:
  ///   - settings: of postgresql.conf. Without `fsync` among them it is off, for speed.
  ///   - authentication: of every connection.
  public init(
    _ settings: [String: String] = [:], authentication: Authentication = .trust
  ) throws {
    directory = try Self.makeDirectory(owner: user)
    port = try Self.freePort()
    self.authentication = authentication
    let defaults = ["fsync": "off", "full_page_writes": "off", "max_connections": "200", "shared_buffers": "64MB"]
    self.settings = defaults.merging(settings) { $1 }.map { ($0.key, $0.value) }.sorted { $0.0 < $1.0 }
    do {
      try initialise()
      try start()
    } catch {
      Self.remove(directory)
      throw error
    }
    let atEnd = AtEnd(directory: directory) { [process] in process.withLock { $0 } }
    cleaning.withLock { list in
      if list.isEmpty { atexit { cleaning.withLock { for item in $0.values { item.run() } } } }
      list[directory] = atEnd
    }
  }

  deinit {
    stop(.immediate)
    Self.remove(directory)
    _ = cleaning.withLock { $0.removeValue(forKey: directory) }
  }

  private func initialise() throws {
    let passwordFile = "\(directory)/password"
    try Self.write(Self.password + "\n", to: passwordFile, owner: user)
    try ServerProcess.run(
      [
        "\(try Self.programs())/initdb", "-D", dataDirectory, "-U", user, "-A", authentication.rawValue,
        "--pwfile=\(passwordFile)", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
      ], user: user, log: logFile)
  }

  // MARK: Life

  public var isRunning: Bool { process.withLock { $0?.isRunning ?? false } }

  /// Starts it and waits until it accepts connections.
  public func start() throws {
    var words = [
      "\(try Self.programs())/postgres", "-D", dataDirectory, "-p", "\(port)", "-k", directory,
      "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_permissions=0777",
    ]
    for (name, value) in settings { words += ["-c", "\(name)=\(value)"] }
    // SIGQUIT ends its children too, and what they share.
    let started = try ServerProcess(words, user: user, log: logFile, lastSignal: "QUIT")
    process.withLock { $0 = started }
    try waitUntilReady(started)
  }

  private func waitUntilReady(_ process: ServerProcess) throws {
    for _ in 0..<6_000 {
      guard process.isRunning else { throw ServerProblem("PostgreSQL ended:\n\(log)") }
      if (try? client().run("SELECT 1")) != nil { return }
      usleep(10_000)
    }
    throw ServerProblem("PostgreSQL accepts no connection after a minute:\n\(log)")
  }

  /// Ends it and waits for that.
  public func stop(_ shutdown: Shutdown = .fast) {
    let running = process.withLock { $0 }
    running?.signal(shutdown.signal)
    running?.waitUntilExit()
    process.withLock { $0 = nil }
  }

  /// Sends a signal to the first process: SIGSTOP does not hold up its children.
  public func signal(_ number: Int32) { process.withLock { $0?.signal(number) } }

  // MARK: Use

  /// The URL of a database, by the Unix socket.
  public func url(_ database: String = "postgres", _ query: String = "") -> String {
    "postgresql://\(account)@/\(database)?host=\(directory)&port=\(port)\(query.isEmpty ? "" : "&\(query)")"
  }

  /// The same by TCP; `port` for something that stands in between.
  public func networkURL(_ database: String = "postgres", port: Int? = nil, _ query: String = "") -> String {
    "postgresql://\(account)@127.0.0.1:\(port ?? self.port)/\(database)\(query.isEmpty ? "" : "?\(query)")"
  }

  private var account: String {
    guard authentication == .scram else { return user }
    let escaped = Self.password.utf8.map { byte in
      let isPlain = byte >= 0x61 && byte <= 0x7a
      return isPlain ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
    return "\(user):\(escaped.joined())"
  }

  /// A connection of a test's own.
  public func client(_ database: String = "postgres") throws -> PostgreSQLClient { try PostgreSQLClient(url(database)) }

  private static let databasesCount = Mutex(0)

  /// Makes an empty database and gives its name. `options`: of CREATE DATABASE.
  public func makeDatabase(_ options: String = "") throws -> String {
    let number = Self.databasesCount.withLock { count in
      count += 1
      return count
    }
    let name = "test_\(getpid())_\(number)"
    try client().run("CREATE DATABASE \(name) \(options)")
    return name
  }

  // MARK: Files

  /// A certificate for 127.0.0.1 that signs itself, and its key, for the settings `ssl_cert_file` and `ssl_key_file`. In a
  /// directory that whoever asked for it removes.
  public static func makeCertificate() throws -> (directory: String, certificate: String, key: String) {
    let directory = try makeDirectory(owner: "postgres")
    let (certificate, key) = ("\(directory)/certificate.pem", "\(directory)/key.pem")
    try ServerProcess.run(
      [
        "/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=backplane", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "30", "-keyout", key, "-out",
        certificate,
      ], user: "postgres", log: "\(directory)/log")
    return (directory, certificate, key)
  }

  /// Where Debian puts the programs; the newest version.
  private static func programs() throws -> String {
    if let chosen = getenv("BACKPLANE_TEST_POSTGRESQL_BIN") { return String(cString: chosen) }
    let root = "/usr/lib/postgresql"
    var versions: [Int] = []
    if let directory = opendir(root) {
      defer { closedir(directory) }
      while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if let version = Int(name), access("\(root)/\(name)/bin/postgres", X_OK) == 0 { versions.append(version) }
      }
    }
    guard let newest = versions.max() else {
      throw ServerProblem("there is no PostgreSQL in \(root); install the Debian package postgresql")
    }
    return "\(root)/\(newest)/bin"
  }

  private static func makeDirectory(owner: String) throws -> String {
    // Short: the path of a Unix socket has at most 107 bytes.
    var template = Array("/tmp/backplane-pg-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw ServerProblem("no temporary directory could be made") }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    chmod(path, 0o755)
    try give(path, to: owner)
    return path
  }

  private static func write(_ text: String, to path: String, owner: String) throws {
    guard let file = fopen(path, "w") else { throw ServerProblem("\(path) cannot be written") }
    fputs(text, file)
    fclose(file)
    chmod(path, 0o600)
    try give(path, to: owner)
  }

  private static func give(_ path: String, to owner: String) throws {
    guard getuid() == 0 else { return }
    guard let entry = getpwnam(owner) else { throw ServerProblem("there is no user \(owner); install postgresql") }
    chown(path, entry.pointee.pw_uid, entry.pointee.pw_gid)
  }

  public static func remove(_ directory: String) { try? FileManager.default.removeItem(atPath: directory) }

  private static func freePort() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard isBound else { throw ServerProblem("no port is free") }
    return Int(UInt16(bigEndian: address.sin_port))
  }
}

private let sharedServer = Mutex<PostgreSQLServer?>(nil)

/// The process of a server, for the object and for the end of the tests.
private final class Shared: Sendable {
  private let process = Mutex<ServerProcess?>(nil)
  func withLock<R>(_ body: (inout sending ServerProcess?) -> sending R) -> R { process.withLock(body) }
}

/// Servers that the end of the tests finds running: objects in global constants never go.
private struct AtEnd: Sendable {
  var directory: String
  var process: @Sendable () -> ServerProcess?

  func run() {
    process()?.signal(SIGQUIT)
    process()?.waitUntilExit()
    PostgreSQLServer.remove(directory)
  }
}

private let cleaning = Mutex<[String: AtEnd]>([:])
