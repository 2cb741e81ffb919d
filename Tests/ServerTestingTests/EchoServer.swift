import Foundation
import ServerTesting
import Synchronization
import Testing

/// Sends back what it gets, and ends when the client has ended. A thread for each connection.
final class EchoServer: Sendable {
  let address: SocketAddress
  private let listener: Int32

  init(at wanted: SocketAddress = .tcp(port: 0)) throws {
    let (listener, address) = try wanted.listening()
    self.listener = listener
    self.address = address
    Thread.detachNewThread {
      while true {
        let client = accept(listener, nil, nil)
        guard client >= 0 else { break }
        Thread.detachNewThread { EchoServer.serve(client) }
      }
      Glibc.close(listener)
    }
  }

  deinit { stop() }

  /// Nobody is accepted any more.
  func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

  private static func serve(_ client: Int32) {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = read(client, &buffer, buffer.count)
      guard count > 0, writeAll(client, buffer[..<count]) else { break }
    }
    Glibc.close(client)
  }
}

/// A client that blocks, for a minute at most.
final class Client: Sendable {
  private let descriptor: Int32

  init(_ address: SocketAddress) throws {
    descriptor = try address.connected(timeoutSeconds: 60)
  }

  deinit { Glibc.close(descriptor) }

  func send(_ bytes: [UInt8]) -> Int { writeAll(descriptor, bytes[...]) ? bytes.count : -1 }

  /// Up to `count` bytes, fewer when the end comes before; nil: the connection was reset.
  func receive(_ count: Int) -> [UInt8]? {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while bytes.count < count {
      let got = recv(descriptor, &buffer, min(buffer.count, count - bytes.count), 0)
      if got < 0 { return nil }
      if got == 0 { break }
      bytes += buffer[..<got]
    }
    return bytes
  }

  func echo(_ bytes: [UInt8]) -> [UInt8]? { send(bytes) < 0 ? nil : receive(bytes.count) }

  /// Nothing comes for so long. There is no event for nothing.
  func isSilent(forMs: Int32) -> Bool {
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&polled, 1, forMs) == 0
  }

  func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }
  func close() { shutdown(descriptor, Int32(SHUT_RDWR)) }
}

private func writeAll(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>) -> Bool {
  var rest = bytes
  while !rest.isEmpty {
    let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    if count <= 0 { return false }
    rest = rest.dropFirst(count)
  }
  return true
}

final class Folder: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/proxy-" + UUID().uuidString.prefix(8)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}
