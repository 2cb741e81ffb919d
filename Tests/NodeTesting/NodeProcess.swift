import Foundation
import Synchronization

/// A real node: the built executable in a folder of its own.
public final class NodeProcess: @unchecked Sendable {
  // @unchecked: `process` is set in init; Foundation's Process is used from one test at a time.
  public let folder: TemporaryFolder
  public private(set) var port: Int
  private let process: Process
  private let logFile: String
  /// Somebody wanted it to end.
  private var wasSignalled = false

  public var pid: Int32 { process.processIdentifier }
  public var pluginsDirectory: String { folder.path + "/plugins.d" }
  public var isRunning: Bool { process.isRunning }
  /// Everything it has logged.
  public var log: String { (try? String(contentsOfFile: logFile, encoding: .utf8)) ?? "" }

  public struct Failed: Error, CustomStringConvertible {
    public var description: String
    public init(description: String) { self.description = description }
  }

  /// Starts a node and waits for its first healthy answer.
  ///
  /// - Parameters:
  ///   - plugins: bundled plugins to drop in.
  ///   - environment: added to an otherwise empty environment; PORT is a free port unless given.
  ///   - configuration: the text of backplane.yaml; nil: none.
  ///   - port: where it will answer, when its configuration says so and `environment` has an empty PORT.
  ///   - command: what to run in place of the built executable's `serve`; it must end up being the node's process.
  public init(
    folder: TemporaryFolder? = nil, plugins: [String] = BuiltProducts.bundled, environment: [String: String] = [:],
    configuration: String? = nil, port givenPort: Int? = nil, arguments: [String] = [],
    command: [String] = [BuiltProducts.backplane, "serve"], waits: Bool = true
  ) throws {
    let folder = try folder ?? TemporaryFolder()
    self.folder = folder
    let directory = folder.path + "/plugins.d"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    for name in plugins where !FileManager.default.fileExists(atPath: "\(directory)/libbackplane-\(name).so") {
      try PluginFile.drop(BuiltProducts.plugin(name), into: directory, as: "libbackplane-\(name).so")
    }
    if let configuration { try folder.write(configuration, to: "backplane.yaml") }
    port = givenPort ?? environment["PORT"].flatMap { Int($0) } ?? FreePort.find()
    var variables = ["PATH": ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin", "PORT": "\(port)"]
    if let path = ProcessInfo.processInfo.environment["LD_LIBRARY_PATH"] { variables["LD_LIBRARY_PATH"] = path }
    // So that every test of whole nodes can be run with every plugin in a process of its own.
    if let policy = ProcessInfo.processInfo.environment["BACKPLANE_ISOLATION_DEFAULT"] {
      variables["BACKPLANE_ISOLATION_DEFAULT"] = policy
    }
    variables["BACKEND_URL"] = configuration == nil ? "memory://" : nil
    for (key, value) in environment { variables[key] = value }
    logFile = folder.path + "/node-\(UUID().uuidString.prefix(4)).log"
    _ = FileManager.default.createFile(atPath: logFile, contents: nil)
    process = Process()
    process.executableURL = URL(fileURLWithPath: command[0])
    process.arguments = Array(command.dropFirst()) + arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
    process.environment = variables
    process.standardInput = FileHandle.nullDevice
    let log = FileHandle(forWritingAtPath: logFile)!
    process.standardOutput = log
    process.standardError = log
    try process.run()
    try log.close()
    if waits { try waitUntilHealthy() }
  }

  deinit {
    if process.isRunning {
      kill(process.processIdentifier, SIGKILL)
    } else if !wasSignalled {
      print("a node ended by itself with status \(process.terminationStatus):\n\(log)")
    }
  }

  public func waitUntilHealthy(seconds: Double = 30) throws {
    let deadline = Date().addingTimeInterval(seconds)
    while Date() < deadline {
      guard process.isRunning else { throw Failed(description: "the node ended:\n\(log)") }
      if let client = try? HTTPConnection(port: port), let answer = try? client.get("/health"), answer.status == 200 {
        return
      }
      usleep(10_000)
    }
    throw Failed(description: "the node is not healthy after \(seconds) s:\n\(log)")
  }

  /// Runs `backplane` with these arguments against this node; its standard output and exit status.
  @discardableResult
  public func command(_ arguments: [String]) throws -> (output: String, errors: String, status: Int32) {
    try CommandLineTool.run(BuiltProducts.backplane, arguments, in: folder.path)
  }

  /// Reloads and gives the receipt.
  public func reload(_ arguments: [String] = []) throws -> [String: Any] {
    let (output, errors, _) = try command(["reload", "--json"] + arguments)
    guard let receipt = try? JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any] else {
      throw Failed(description: "no receipt: \(output)\(errors)\n\(log)")
    }
    return receipt
  }

  public func signal(_ number: Int32) {
    wasSignalled = true
    kill(process.processIdentifier, number)
  }

  /// Sends SIGTERM and waits; the exit status.
  @discardableResult
  public func stop() -> Int32 {
    if process.isRunning { signal(SIGTERM) }
    process.waitUntilExit()
    return process.terminationStatus
  }

  /// The process that serves: another than `pid` after an upgrade.
  public func servingPid() throws -> Int32 {
    guard let pid = try ask(["command": "status"])["pid"] as? Int else { throw Failed(description: "no pid\n\(log)") }
    return Int32(pid)
  }

  /// Upgrades over the control socket; the receipt.
  public func upgrade(_ executable: String? = nil) throws -> TestReceipt {
    var request = ["command": "upgrade"]
    if let executable { request["executable"] = executable }
    let answer = try ask(request)
    guard let receipt = answer["receipt"] as? [String: Any] else { throw Failed(description: "\(answer)\n\(log)") }
    return TestReceipt(receipt)
  }

  /// Its end is no accident.
  public func expectsEnd() { wasSignalled = true }

  /// After its end.
  public var wasEndedBySignal: Bool { !process.isRunning && process.terminationReason == .uncaughtSignal }

  /// Waits for its end.
  public func wait() -> Int32 {
    process.waitUntilExit()
    return process.terminationStatus
  }

  /// Threads and open descriptors of the node now, those of its children included.
  public func resources() -> (threads: Int, descriptors: Int) {
    func count(_ folder: String) -> Int { (try? FileManager.default.contentsOfDirectory(atPath: folder).count) ?? 0 }
    return ([pid] + children).reduce(into: (0, 0)) { sum, id in
      sum.0 += count("/proc/\(id)/task")
      sum.1 += count("/proc/\(id)/fd")
    }
  }

  /// Its child processes now: those that host plugins, and probes.
  public var children: [Int32] {
    let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task")) ?? []
    return threads.flatMap { thread -> [Int32] in
      let text = try? String(contentsOfFile: "/proc/\(pid)/task/\(thread)/children", encoding: .utf8)
      return (text ?? "").split(separator: " ").compactMap { Int32($0) }
    }
  }

  /// Likewise of one process alone.
  public func resources(of pid: Int32) -> (threads: Int, descriptors: Int) {
    let files = FileManager.default
    return (
      (try? files.contentsOfDirectory(atPath: "/proc/\(pid)/task").count) ?? 0,
      (try? files.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count) ?? 0
    )
  }

  /// What the open descriptors are, and the threads' names: for the message of a test that counts them.
  public func resourceNames() -> String {
    let files = FileManager.default
    let descriptors = ((try? files.contentsOfDirectory(atPath: "/proc/\(pid)/fd")) ?? []).map {
      (try? files.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\($0)")) ?? "?"
    }
    let threads = ((try? files.contentsOfDirectory(atPath: "/proc/\(pid)/task")) ?? []).map {
      ProcessFile.read("/proc/\(pid)/task/\($0)/comm").trimmingCharacters(in: .whitespacesAndNewlines)
    }
    return "\(descriptors.sorted()) \(threads.sorted())"
  }

  /// Resident memory, bytes.
  public var residentBytes: Int {
    guard let text = try? String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8) else { return 0 }
    let fields = text.split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
  }
}

/// Ports that nobody has now, each given once by this process.
///
/// They lie below the range from which the system takes ports for clients: one from that range could be taken by a
/// connection of another test before the node binds it, or a client that asks for it too early could be connected with
/// itself.
public enum FreePort {
  private static let next = Mutex(Int.random(in: range))
  private static let range = 10_000..<32_000

  public static func find() -> Int {
    while true {
      let port = next.withLock { next in
        next = next + 1 < range.upperBound ? next + 1 : range.lowerBound
        return next
      }
      if isFree(port) { return port }
    }
  }

  private static func isFree(_ port: Int) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(descriptor) }
    var on: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }
}

/// Runs a program to its end.
public enum CommandLineTool {
  public static func run(
    _ executable: String, _ arguments: [String], in directory: String, environment: [String: String] = [:]
  ) throws -> (output: String, errors: String, status: Int32) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = arguments
    process.currentDirectoryURL = URL(fileURLWithPath: directory)
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    // Files, not pipes: a pipe that is full would stop the program, and one that a grandchild inherits never ends.
    let base = NSTemporaryDirectory() + "backplane-tool-\(UUID().uuidString)"
    for name in ["out", "err"] { _ = FileManager.default.createFile(atPath: "\(base).\(name)", contents: nil) }
    defer { for name in ["out", "err"] { try? FileManager.default.removeItem(atPath: "\(base).\(name)") } }
    process.standardOutput = FileHandle(forWritingAtPath: base + ".out")
    process.standardError = FileHandle(forWritingAtPath: base + ".err")
    try process.run()
    process.waitUntilExit()
    func text(_ name: String) -> String { (try? String(contentsOfFile: "\(base).\(name)", encoding: .utf8)) ?? "" }
    return (text("out"), text("err"), process.terminationStatus)
  }
}
