import Glibc
import Synchronization

/// One end of the socket. Any thread may send; one thread receives.
final class Wire: Sendable {
  private static let frameBytesMax = 64 << 20

  let descriptor: Int32
  private let sending = Mutex(())
  private struct Inbox {
    var bytes: [UInt8] = []
    var descriptors: [Int32] = []
  }
  private let inbox = Mutex(Inbox())

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  /// A descriptor that came with the frames so far.
  func takeDescriptor() -> Int32? {
    inbox.withLock { $0.descriptors.isEmpty ? nil : $0.descriptors.removeFirst() }
  }

  /// False when the other end is gone.
  @discardableResult
  func send(_ frame: Frame, lending lent: Int32? = nil) -> Bool {
    var message = withUnsafeBytes(of: UInt32(frame.bytes.count + 1).littleEndian) { Array($0) }
    message.append(frame.type.rawValue)
    message += frame.bytes
    return sending.withLock { _ in
      var sent = 0
      while sent < message.count {
        let count = message[sent...].withUnsafeBytes { bytes in
          withControl(sent == 0 ? lent : nil) { control, length in
            var part = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
            return withUnsafeMutablePointer(to: &part) { part in
              var header = msghdr()
              header.msg_iov = part
              header.msg_iovlen = 1
              header.msg_control = control
              header.msg_controllen = length
              return sendmsg(descriptor, &header, Int32(MSG_NOSIGNAL))
            }
          }
        }
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { return false }
        sent += count
      }
      return true
    }
  }

  /// The next frame, or nil when the other end is gone or talks nonsense.
  func receive() -> Frame? {
    while true {
      switch take() {
      case .frame(let frame): return frame
      case .nonsense: return nil
      case .more: if !fill() { return nil }
      }
    }
  }

  private enum Taken {
    case frame(Frame)
    case more, nonsense
  }

  private func take() -> Taken {
    inbox.withLock { inbox in
      guard inbox.bytes.count >= 4 else { return .more }
      let length = inbox.bytes[..<4].reversed().reduce(0) { $0 << 8 | Int($1) }
      guard length >= 1, length <= Wire.frameBytesMax else { return .nonsense }
      guard inbox.bytes.count >= 4 + length else { return .more }
      guard let type = FrameType(rawValue: inbox.bytes[4]) else { return .nonsense }
      let payload = Array(inbox.bytes[5..<4 + length])
      inbox.bytes.removeFirst(4 + length)
      return .frame(Frame(type: type, payload: payload))
    }
  }

  private func fill() -> Bool {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    // Room for one descriptor: a cmsghdr (16 bytes), an int, padding.
    var control = [UInt64](repeating: 0, count: 3)
    let (count, received): (Int, Int) = buffer.withUnsafeMutableBytes { bytes in
      control.withUnsafeMutableBytes { control in
        var part = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
        return withUnsafeMutablePointer(to: &part) { part in
          var header = msghdr()
          header.msg_iov = part
          header.msg_iovlen = 1
          header.msg_control = control.baseAddress
          header.msg_controllen = control.count
          while true {
            let count = recvmsg(descriptor, &header, Int32(MSG_CMSG_CLOEXEC))
            if count < 0 && errno == EINTR { continue }
            return (count, Int(header.msg_controllen))
          }
        }
      }
    }
    guard count > 0 else { return false }
    inbox.withLock { inbox in
      inbox.bytes += buffer[..<count]
      if received >= 20 {
        inbox.descriptors.append(control.withUnsafeBytes { $0.load(fromByteOffset: 16, as: Int32.self) })
      }
    }
    return true
  }

  /// A control message with one descriptor, laid out by hand: the CMSG macros do not reach Swift.
  private func withControl<R>(_ lent: Int32?, _ body: (UnsafeMutableRawPointer?, Int) -> R) -> R {
    guard let lent else { return body(nil, 0) }
    var control = [UInt64](repeating: 0, count: 3)
    return control.withUnsafeMutableBytes { raw in
      raw.storeBytes(of: 20, toByteOffset: 0, as: Int.self)
      raw.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: Int32.self)
      raw.storeBytes(of: Int32(SCM_RIGHTS), toByteOffset: 12, as: Int32.self)
      raw.storeBytes(of: lent, toByteOffset: 16, as: Int32.self)
      return body(raw.baseAddress, raw.count)
    }
  }
}
