import Foundation
import PluginAPI

/// A client of the toy transports.
enum LineClient {
  static func connect(_ port: UInt16) throws -> Int32 {
    let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    // A test that would wait for ever fails instead.
    var limit = timeval(tv_sec: 60, tv_usec: 0)
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Foundation.connect(connection, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard status == 0 else {
      close(connection)
      throw Failure.unavailable("connect to port \(port): \(String(cString: strerror(errno)))")
    }
    return connection
  }

  /// Sends a line and reads to the end.
  static func ask(_ line: String, port: UInt16) async throws -> String {
    try await Toolbox.offPool { try askBlocking(line, port: port) }
  }

  private static func askBlocking(_ line: String, port: UInt16) throws -> String {
    let connection = try connect(port)
    defer { close(connection) }
    let bytes = Array((line + "\n").utf8)
    guard send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
      throw Failure.unavailable("send: \(String(cString: strerror(errno)))")
    }
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1024)
    while true {
      let count = recv(connection, &buffer, buffer.count, 0)
      guard count >= 0 else { throw Failure.unavailable("recv: \(String(cString: strerror(errno)))") }
      guard count > 0 else { return String(decoding: answer, as: UTF8.self) }
      answer += buffer[..<count]
    }
  }
}
