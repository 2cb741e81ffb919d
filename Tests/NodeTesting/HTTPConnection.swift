import Foundation

/// One blocking keep-alive connection: it sends bytes as they are told and reads whole answers, so that a test sees
/// resets, refusals and half answers for what they are.
public final class HTTPConnection {
  public struct Answer {
    public var status: Int
    /// Names in lower case.
    public var headers: [String: String]
    public var body: [UInt8]
    public var text: String { String(decoding: body, as: UTF8.self) }
    public var json: Any? { try? JSONSerialization.jsonObject(with: Data(body), options: .fragmentsAllowed) }
    /// The server will close the connection.
    public var closes: Bool { headers["connection"]?.lowercased() == "close" }

    public init(status: Int, headers: [String: String], body: [UInt8]) {
      self.status = status
      self.headers = headers
      self.body = body
    }
  }

  public enum Trouble: Error, Equatable {
    case refused(Int32)
    /// The connection ended before the answer was whole; with how many bytes of it.
    case closed(received: Int)
    case reset
    case timedOut
    case garbage
  }

  private let descriptor: Int32
  private var buffer: [UInt8] = []
  private var received = 0

  public init(port: Int, timeoutSeconds: Int = 30) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw Trouble.refused(errno) }
    var time = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    var on: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    // deinit closes the descriptor: everything is initialised by now. Closing it here too would close another thread's.
    guard status == 0 else { throw Trouble.refused(errno) }
  }

  deinit { close(descriptor) }

  public func get(_ path: String, headers: [String: String] = [:]) throws -> Answer {
    try request("GET", path, headers: headers)
  }

  public func post(_ path: String, _ body: String, headers: [String: String] = [:]) throws -> Answer {
    try request("POST", path, headers: headers, body: Array(body.utf8))
  }

  public func request(
    _ method: String, _ path: String, headers: [String: String] = [:], body: [UInt8]? = nil
  ) throws -> Answer {
    var head = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\n"
    for (name, value) in headers { head += "\(name): \(value)\r\n" }
    if let body { head += "Content-Length: \(body.count)\r\n" }
    try send(Array((head + "\r\n").utf8) + (body ?? []))
    return try readAnswer(hasBody: method != "HEAD")
  }

  /// Sends bytes as they are.
  public func send(_ bytes: [UInt8]) throws {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count < 0 {
        throw errno == EAGAIN ? Trouble.timedOut : Trouble.reset
      }
      sent += count
    }
  }

  public func send(_ text: String) throws { try send(Array(text.utf8)) }

  /// Ends our side.
  public func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// Takes little into its receive buffer: whoever writes to it notices soon that nobody reads.
  public func shrinkReceiveBuffer() {
    var size: Int32 = 4096
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
  }

  /// How long sending may wait for the other side to read.
  public func setSendTimeout(milliseconds: Int) {
    var time = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
  }

  /// Reads one whole answer.
  /// - Parameter mayUpgrade: what follows a 101 is another protocol's.
  public func readAnswer(hasBody: Bool = true, mayUpgrade: Bool = false) throws -> Answer {
    received = 0
    let head = try readHead()
    var lines = head.components(separatedBy: "\r\n")
    let parts = lines.removeFirst().split(separator: " ")
    guard parts.count >= 2, let status = Int(parts[1]) else { throw Trouble.garbage }
    var headers: [String: String] = [:]
    for line in lines {
      guard let colon = line.firstIndex(of: ":") else { continue }
      headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    if status == 100 { return try readAnswer(hasBody: hasBody) }
    var body: [UInt8] = []
    if hasBody, status != 204, status != 304, !(mayUpgrade && status == 101) {
      if let length = headers["content-length"].flatMap({ Int($0) }) {
        body = try take(length)
      } else if headers["transfer-encoding"] == "chunked" {
        throw Trouble.garbage
      } else {
        while true {
          do { try fill() } catch Trouble.closed { break }
        }
        body = buffer
        buffer = []
      }
    }
    return Answer(status: status, headers: headers, body: body)
  }

  /// Everything up to the end, for a protocol that is not HTTP.
  public func readToEnd() throws -> String {
    while true {
      do { try fill() } catch Trouble.closed { break }
    }
    defer { buffer = [] }
    return String(decoding: buffer, as: UTF8.self)
  }

  /// Whether bytes, or the end of the connection, come within `withinMs` milliseconds.
  public func hasInput(withinMs timeoutMs: Int32) throws -> Bool {
    if !buffer.isEmpty { return true }
    var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&watched, 1, timeoutMs) > 0
  }

  /// True when the server closes the connection cleanly, with nothing more to read.
  public func waitForClose() throws -> Bool {
    do {
      try fill()
      return false
    } catch Trouble.closed { return buffer.isEmpty }
  }

  private func readHead() throws -> String {
    while true {
      if let end = buffer.firstRange(of: Array("\r\n\r\n".utf8)) {
        defer { buffer.removeSubrange(..<end.upperBound) }
        return String(decoding: buffer[..<end.lowerBound], as: UTF8.self)
      }
      guard buffer.count < 1 << 20 else { throw Trouble.garbage }
      try fill()
    }
  }

  /// Exactly `count` bytes, for a protocol that is not HTTP.
  public func readBytes(_ count: Int) throws -> [UInt8] { try take(count) }

  private func take(_ count: Int) throws -> [UInt8] {
    while buffer.count < count { try fill() }
    defer { buffer.removeSubrange(..<count) }
    return Array(buffer[..<count])
  }

  private func fill() throws {
    var chunk = [UInt8](repeating: 0, count: 65_536)
    let count = recv(descriptor, &chunk, chunk.count, 0)
    if count < 0 { throw errno == EAGAIN || errno == EWOULDBLOCK ? Trouble.timedOut : Trouble.reset }
    if count == 0 { throw Trouble.closed(received: received + buffer.count) }
    received += count
    buffer.append(contentsOf: chunk[0..<count])
  }
}
