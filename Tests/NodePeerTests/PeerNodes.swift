import Foundation
import NodeTesting

/// A node with a memory backend, and peers as a test says.
final class PeerNode {
  private(set) var process: NodeProcess
  let port: Int
  private let arguments: String
  private let environment: [String: String]

  static let plugins = BuiltProducts.bundled + ["backend-http"]

  /// - Parameters:
  ///   - peers: lines of `slots:`, such as `PeerNode.peer("b", port, "push")`.
  ///   - backend: the slot that keeps records.
  init(
    port: Int = FreePort.find(), _ peers: [String] = [], backend: String = PeerNode.memory,
    environment: [String: String] = [:]
  ) throws {
    self.port = port
    arguments = backend
    self.environment = environment.merging(["PORT": ""]) { $0 + $1 }
    process = try NodeProcess(
      plugins: Self.plugins, environment: self.environment, configuration: Self.text(port, peers, backend), port: port)
  }

  static let memory = "records: {kind: backend, url: \"memory://\"}"
  static let disk = "records: {kind: backend, url: \"sqlite://\"}"

  static func peer(_ name: String, _ port: Int, _ direction: String, _ more: String = "") -> String {
    "\(name): {kind: backend, url: \"http://127.0.0.1:\(port)\", health_interval_ms: 100, peer: \(direction)\(more)}"
  }

  private static func text(_ port: Int, _ peers: [String], _ backend: String) -> String {
    (["slots:", "http: {kind: transport, port: \(port)}", backend] + peers).joined(separator: "\n  ") + "\n"
  }

  /// The configuration file with other peers.
  func write(_ peers: [String]) throws {
    try process.folder.write(Self.text(port, peers, arguments), to: "backplane.yaml")
  }

  /// After the end of its process: another one in the same folder.
  func startAgain() throws {
    process = try NodeProcess(folder: process.folder, plugins: Self.plugins, environment: environment, port: port)
  }

  func kill() {
    process.signal(SIGKILL)
    process.stop()
  }

  func requests(_ route: String) throws -> Int {
    Int(try process.metric("backplane_plugin_http_requests_total", "route=\"\(route)\"") ?? 0)
  }

  func queued(_ slot: String) throws -> Int {
    Int(try process.metric("backplane_peer_queue_units", "slot=\"\(slot)\"") ?? -1)
  }

  func count(_ name: String, _ slot: String, _ more: String = "{") throws -> Int {
    Int(try process.metric(name, "slot=\"\(slot)\"", more) ?? -1)
  }

  /// What the status says of a slot.
  func slot(_ name: String) throws -> [String: Any]? {
    (try process.ask(["command": "status"])["slots"] as? [[String: Any]])?.first { $0["name"] as? String == name }
  }

  /// The peer is known to be there.
  func knows(_ peer: String) throws -> Bool {
    try Polling.until(seconds: 60) { try slot(peer)?["state"] as? String == "healthy" }
  }

  /// Everything that it was to send has been sent.
  func isLevel(_ slot: String, seconds: Double = 60) throws -> Bool {
    try Polling.until(seconds: seconds) { try queued(slot) == 0 }
  }

  /// The status and the data of one record of `mutable://open/`.
  func value(_ name: String) throws -> String? {
    let answer = try process.read("mutable/open/\(name)")
    guard answer.status == 200, let start = answer.text.range(of: "\"data\":") else { return nil }
    return String(answer.text[start.upperBound...].dropLast())
  }

  @discardableResult
  func put(_ name: String, _ data: String) throws -> Int { try process.put("mutable://open/\(name)", data).status }

  /// Writes over one connection, and gives the names of what was acknowledged.
  func put(_ names: [String]) throws -> [String] {
    let connection = try HTTPConnection(port: port)
    return try names.filter {
      try connection.post("/api/v1/receive", #"{"tx":["mutable://open/\#($0)","\#($0)"]}"#).status == 200
    }
  }

  /// Names of which the record is not what `put(_:)` has written.
  func missing(_ names: [String]) throws -> [String] {
    let connection = try HTTPConnection(port: port)
    return try names.filter {
      let answer = try connection.get("/api/v1/read/mutable/open/\($0)")
      return !(answer.status == 200 && answer.text.hasSuffix("\"data\":\"\($0)\"}"))
    }
  }
}

/// A server that takes connections and never says anything.
final class SilentServer {
  let port: Int
  private let descriptor: Int32

  init() throws {
    port = FreePort.find()
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var on: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let bound = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    // The system completes connections by itself; nobody accepts them here.
    guard bound == 0, listen(descriptor, 512) == 0 else { throw NSError(domain: NSPOSIXErrorDomain, code: Int(errno)) }
  }

  deinit { close(descriptor) }
}
