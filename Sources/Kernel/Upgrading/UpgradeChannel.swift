import Foundation
import SystemShims

/// The socket between a kernel and the one that is to take its place: messages, and descriptors beside them.
///
/// A message is its length and its number of descriptors, 4 bytes each in host order, its JSON, and a byte for each
/// descriptor. One thread sends and one receives at a time.
final class UpgradeChannel: @unchecked Sendable {
  // @unchecked: the descriptor is fixed; `isClosed` is only touched by the thread that uses the channel.
  enum Failure: Error {
    /// The other process has gone.
    case ended
    case timedOut
    case garbled(String)
  }

  /// A configuration of thousands of slots is some MiB.
  static let messageSizeBytesMax = 64 << 20
  static let descriptorsMax = 1024

  private let descriptor: Int32

  /// Owns `descriptor` from now on.
  init(_ descriptor: Int32) {
    self.descriptor = descriptor
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
  }

  deinit { close(descriptor) }

  func send(_ message: UpgradeMessage, descriptors: [Int32] = []) throws(Failure) {
    guard let json = try? JSONEncoder().encode(message) else { throw .garbled("a message cannot be encoded") }
    var bytes = withUnsafeBytes(of: UInt32(json.count)) { Array($0) }
    bytes += withUnsafeBytes(of: UInt32(descriptors.count)) { Array($0) }
    bytes += json
    guard bp_shim_send_with_descriptor(descriptor, bytes, bytes.count, -1) == 0 else { throw .ended }
    for given in descriptors {
      var mark: UInt8 = 0
      guard bp_shim_send_with_descriptor(descriptor, &mark, 1, given) == 0 else { throw .ended }
    }
  }

  /// The next message; its descriptors are the caller's.
  func receive(untilNs deadlineNs: UInt64) throws(Failure) -> (UpgradeMessage, descriptors: [Int32]) {
    let header = try read(8, deadlineNs)
    let (size, count) = header.withUnsafeBytes {
      (Int($0.load(as: UInt32.self)), Int($0.load(fromByteOffset: 4, as: UInt32.self)))
    }
    guard size <= UpgradeChannel.messageSizeBytesMax, count <= UpgradeChannel.descriptorsMax else {
      throw .garbled("a message of \(size) bytes with \(count) descriptors")
    }
    let json = try read(size, deadlineNs)
    var descriptors: [Int32] = []
    func giveUp(_ failure: Failure) -> Failure {
      for descriptor in descriptors { close(descriptor) }
      return failure
    }
    for _ in 0..<count {
      var given: Int32 = -1
      var mark: UInt8 = 0
      do throws(Failure) { try wait(deadlineNs) } catch { throw giveUp(error) }
      guard bp_shim_receive_with_descriptor(descriptor, &mark, 1, &given) == 1, given >= 0 else {
        throw giveUp(.ended)
      }
      descriptors.append(given)
    }
    do {
      return (try JSONDecoder().decode(UpgradeMessage.self, from: Data(json)), descriptors)
    } catch {
      throw giveUp(.garbled("\(error)"))
    }
  }

  /// Returns when there is something to read, or the other side has gone.
  private func wait(_ deadlineNs: UInt64) throws(Failure) {
    while true {
      let now = Clock.monotonicNs()
      guard now < deadlineNs else { throw .timedOut }
      var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      if poll(&polled, 1, Int32(clamping: min((deadlineNs - now) / 1_000_000 + 1, 3_600_000))) > 0 { return }
    }
  }

  private func read(_ size: Int, _ deadlineNs: UInt64) throws(Failure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: size)
    var filled = 0
    while filled < size {
      try wait(deadlineNs)
      let count = bytes.withUnsafeMutableBytes {
        bp_shim_receive_with_descriptor(descriptor, $0.baseAddress! + filled, size - filled, nil)
      }
      guard count > 0 else { throw .ended }
      filled += count
    }
    return bytes
  }
}

extension UpgradeChannel.Failure {
  /// A clause after "the new process".
  var clause: String {
    switch self {
    case .ended: "has ended before it was ready"
    case .timedOut: "was not ready in time (reload.upgrade_timeout_ms)"
    case .garbled(let what): "sent what this one does not understand (\(what))"
    }
  }
}
