import Foundation

/// Asks a node: over its control socket, and over HTTP on connections of its own.
extension NodeProcess {
  public var controlSocket: String { folder.path + "/data/run/control.sock" }

  /// One request over the control socket, as `backplane reload` makes it but without a process for each.
  public func ask(_ request: [String: Any], timeoutSeconds: Int = 120) throws -> [String: Any] {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(descriptor) }
    var time = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = Array(controlSocket.utf8)
    guard path.count < MemoryLayout.size(ofValue: address.sun_path) else { throw Failed(description: "path too long") }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path) }
    var status: Int32 = -1
    // A node answers over HTTP a moment before its control socket is there; one that died leaves its own behind.
    _ = Polling.until(seconds: 5) {
      status = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
      }
      return status == 0 || (errno != ENOENT && errno != ECONNREFUSED)
    }
    guard status == 0 else { throw Failed(description: "no control socket: errno \(errno)\n\(log)") }
    var line = try JSONSerialization.data(withJSONObject: request)
    line.append(0x0a)
    let sent = line.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    guard sent == line.count else { throw Failed(description: "the request was not taken") }
    var answer = Data()
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      guard count > 0 else { break }
      answer.append(contentsOf: buffer[0..<count])
    }
    guard let object = try? JSONSerialization.jsonObject(with: answer) as? [String: Any] else {
      throw Failed(description: "no answer on the control socket\n\(log)")
    }
    return object
  }

  /// Reloads over the control socket; the receipt.
  public func reloadDirectly(now: [String] = [], losesState: Bool = false) throws -> TestReceipt {
    let answer = try ask(["command": "reload", "now": now, "lose_state": losesState])
    guard let receipt = answer["receipt"] as? [String: Any] else { throw Failed(description: "\(answer)") }
    return TestReceipt(receipt)
  }

  /// Rolls back over the control socket; the receipt.
  public func rollBackDirectly(_ slots: [String]? = nil) throws -> TestReceipt {
    var request: [String: Any] = ["command": "rollback"]
    if let slots { request["slots"] = slots }
    let answer = try ask(request)
    guard let receipt = answer["receipt"] as? [String: Any] else { throw Failed(description: "\(answer)") }
    return TestReceipt(receipt)
  }

  /// The receipts that the node keeps, newest first.
  public func receipts(limit: Int = 1000) throws -> [TestReceipt] {
    let answer = try ask(["command": "history", "limit": limit])
    return (answer["receipts"] as? [[String: Any]] ?? []).map(TestReceipt.init)
  }

  /// Puts one record; the answer's status.
  @discardableResult
  public func put(_ uri: String, _ data: String) throws -> HTTPConnection.Answer {
    try HTTPConnection(port: port).post("/api/v1/receive", #"{"tx":["\#(uri)",\#(data)]}"#)
  }

  /// Reads `mutable://open/a` as `mutable/open/a`.
  public func read(_ path: String) throws -> HTTPConnection.Answer {
    try HTTPConnection(port: port).get("/api/v1/read/" + path)
  }

  public func health() throws -> HTTPConnection.Answer { try HTTPConnection(port: port).get("/api/v1/health") }

  /// The value of the first series of /metrics whose line begins with `name` and holds every one of `parts`.
  public func metric(_ name: String, _ parts: String...) throws -> Double? {
    let text = try HTTPConnection(port: port).get("/metrics").text
    for line in text.split(separator: "\n") where line.hasPrefix(name) && parts.allSatisfy({ line.contains($0) }) {
      if let value = line.split(separator: " ").last.flatMap({ Double($0) }) { return value }
    }
    return nil
  }
}

/// What a receipt says, for tests.
public struct TestReceipt: CustomStringConvertible {
  public struct Refusal {
    public var slot: String?
    public var file: String?
    public var stage: String
    public var code: String
    public var message: String
  }

  public let outcome: String
  public let trigger: String
  public let id: Int
  public let generationBefore: Int
  public let generation: Int
  public let refusals: [Refusal]
  /// `slot:action`.
  public let changes: [String]
  public let notes: [String]
  /// What became of each slot's state, where it had some.
  public let states: [String: String]
  /// What was rolled back, and the sentence that says why.
  public let rollbacks: [String: String]
  public let durationMs: Double
  /// How long each phase took.
  public let phasesMs: [(name: String, milliseconds: Double)]
  public let description: String

  public init(_ object: [String: Any]) {
    outcome = object["outcome"] as? String ?? ""
    trigger = object["trigger"] as? String ?? ""
    id = object["id"] as? Int ?? 0
    generationBefore = object["generation_before"] as? Int ?? 0
    generation = object["generation"] as? Int ?? 0
    refusals = (object["refusals"] as? [[String: Any]] ?? []).map {
      Refusal(
        slot: $0["slot"] as? String, file: $0["file"] as? String, stage: $0["stage"] as? String ?? "",
        code: $0["code"] as? String ?? "", message: $0["message"] as? String ?? "")
    }
    changes = (object["changes"] as? [[String: Any]] ?? []).map {
      "\($0["slot"] as? String ?? ""):\($0["action"] as? String ?? "")"
    }
    notes = object["notes"] as? [String] ?? []
    var states: [String: String] = [:]
    for change in object["changes"] as? [[String: Any]] ?? [] {
      if let slot = change["slot"] as? String, let state = change["state"] as? String { states[slot] = state }
    }
    self.states = states
    var rollbacks: [String: String] = [:]
    for rollback in object["rollbacks"] as? [[String: Any]] ?? [] {
      if let slot = rollback["slot"] as? String { rollbacks[slot] = rollback["reason"] as? String ?? "" }
    }
    self.rollbacks = rollbacks
    durationMs = object["duration_ms"] as? Double ?? 0
    phasesMs = (object["phases"] as? [[String: Any]] ?? []).map {
      ($0["name"] as? String ?? "", $0["duration_ms"] as? Double ?? 0)
    }
    description = "\(object)"
  }
}
