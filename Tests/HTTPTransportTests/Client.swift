import Glibc

/// A raw HTTP client on a blocking socket; every wait ends after a minute.
final class Client {
  struct Response {
    var status: Int
    var headers: [String: String]
    var body: [UInt8]
    var text: String { String(decoding: body, as: UTF8.self) }
  }
  enum Trouble: Error { case timeout, closed([UInt8]), connect(Int32) }

  private let descriptor: Int32
  private var buffer: [UInt8] = []

  init(port: UInt16) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = loopback(port)
    let code = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard code == 0 else { throw Trouble.connect(errno) }
  }

  deinit { close(descriptor) }

  func send(_ text: String) { send(Array(text.utf8)) }

  func send(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if sent <= 0 { return }
      rest = rest.dropFirst(sent)
    }
  }

  func get(_ path: String, _ headers: String = "", method: String = "GET") throws -> Response {
    send("\(method) \(path) HTTP/1.1\r\nHost: t\r\n\(headers)\r\n")
    return try response(hasBody: method != "HEAD")
  }

  func post(_ path: String, _ body: [UInt8], _ headers: String = "", method: String = "POST") throws -> Response {
    send(Array("\(method) \(path) HTTP/1.1\r\nHost: t\r\n\(headers)content-length: \(body.count)\r\n\r\n".utf8) + body)
    return try response()
  }

  func receive(_ json: String) throws -> Response { try post("/api/v1/receive", Array(json.utf8)) }

  /// Says that nothing more will be sent.
  func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// Closes with a reset.
  func reset() {
    var option = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    var none = loopback(0)
    none.sin_family = sa_family_t(AF_UNSPEC)
    // Disconnecting with linger 0 resets; the descriptor itself is closed once, by deinit.
    _ = withUnsafePointer(to: &none) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }

  private func fill() throws {
    var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&watched, 1, 60_000) == 1 else { throw Trouble.timeout }
    var chunk = [UInt8](repeating: 0, count: 65_536)
    let count = recv(descriptor, &chunk, chunk.count, 0)
    guard count > 0 else { throw Trouble.closed(buffer) }
    buffer.append(contentsOf: chunk[..<count])
  }

  /// Exactly so many bytes.
  func bytes(_ count: Int) throws -> [UInt8] {
    while buffer.count < count { try fill() }
    defer { buffer.removeFirst(count) }
    return Array(buffer[..<count])
  }

  /// Waits for the end of the connection and returns what came before it.
  func end() throws -> [UInt8] {
    while true {
      do { try fill() } catch Trouble.closed(let rest) { return rest }
    }
  }

  func response(hasBody: Bool = true) throws -> Response {
    var end: Int?
    while true {
      end = buffer.indices.dropLast(3).first { Array(buffer[$0..<($0 + 4)]) == [13, 10, 13, 10] }
      if end != nil { break }
      try fill()
    }
    let lines = String(decoding: buffer[..<end!], as: UTF8.self).split(separator: "\r\n")
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      let colon = line.firstIndex(of: ":")!
      headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
    }
    buffer.removeFirst(end! + 4)
    let status = Int(lines[0].split(separator: " ")[1])!
    let length = hasBody && status != 204 && status != 100 ? Int(headers["content-length"] ?? "0")! : 0
    while buffer.count < length { try fill() }
    defer { buffer.removeFirst(length) }
    return Response(status: status, headers: headers, body: Array(buffer[..<length]))
  }
}

func loopback(_ port: UInt16) -> sockaddr_in {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
  return address
}

/// A listening socket on a free port, as the kernel would lend it.
func listeningSocket() -> (descriptor: Int32, port: UInt16) {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), 0)
  var address = loopback(0)
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  withUnsafeMutablePointer(to: &address) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      _ = bind(descriptor, $0, length)
      _ = getsockname(descriptor, $0, &length)
    }
  }
  listen(descriptor, 128)
  return (descriptor, UInt16(bigEndian: address.sin_port))
}
