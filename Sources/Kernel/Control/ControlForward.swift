import Foundation
import SystemShims

/// Asks the process that has taken the node over, for whoever asked this one.
enum ControlForward {
  private static let answerSizeBytesMax = 64 << 20

  /// One line over the control socket; nil when there was no answer. Blocks its thread.
  static func ask(_ line: Data, socket path: String) -> Data? {
    guard let (found, length) = UnixSocket.address(path) else { return nil }
    var address = found
    let descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) }
    }
    guard status == 0 else { return nil }
    let bytes = [UInt8](line) + [0x0a]
    guard bp_shim_send_with_descriptor(descriptor, bytes, bytes.count, -1) == 0 else { return nil }
    var answer = Data()
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while answer.last != 0x0a, answer.count < answerSizeBytesMax {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return nil }
      answer.append(contentsOf: buffer[0..<count])
    }
    return answer.dropLast()
  }

  static func receipt(_ answer: Data) -> Receipt? {
    struct Answer: Decodable { var receipt: Receipt }
    return try? JSONDecoder().decode(Answer.self, from: answer).receipt
  }
}
