import Foundation
import Synchronization
import SystemShims

/// The control socket: a Unix stream socket of mode 0600. One line of JSON each way, then it is closed.
final class ControlServer: @unchecked Sendable {
  // @unchecked: `thread` is touched in init and shutDown only.
  static let requestSizeBytesMax = 1 << 20
  static let requestTimeoutMs: Int32 = 5000
  static let connectionsMax = 32

  private let number: Atomic<Int32>
  var descriptor: Int32 { number.load(ordering: .acquiring) }
  private let path: String
  private let wake: Int32
  private unowned let kernel: Kernel
  private let isClosed = Atomic<Bool>(false)
  private let connections = Atomic<Int>(0)
  private var thread: pthread_t?

  /// - Parameter adopted: the listening socket of the kernel before this one, owned from now on.
  init(path: String, kernel: Kernel, adopting adopted: Int32? = nil) throws {
    guard let descriptor = adopted ?? UnixSocket.listen(path: path, mode: 0o600) else {
      throw Refusal(
        file: path, phase: .started, code: "control.unavailable",
        sentence: "the control socket \(path) cannot be made (\(String(cString: strerror(errno)))); make "
          + "directories.runtime writable and short")
    }
    number = Atomic(descriptor)
    self.path = path
    self.kernel = kernel
    // While a kernel is replaced two processes accept here: whoever comes second must not wait for the next.
    _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    wake = bp_shim_eventfd()
    OwnDescriptors.shared.add(descriptor, "the control socket") { [weak self] in
      self?.number.store($0, ordering: .releasing)
    }
    thread = Thread.start(name: "bp-control-socket") { [self] in accept() }
  }

  /// Accepts no more. What is being answered is answered all the same.
  ///
  /// - Parameter isHandedOver: another process goes on with the socket.
  func shutDown(isHandedOver: Bool = false) {
    isClosed.store(true, ordering: .releasing)
    _ = bp_shim_eventfd_signal(wake)
    if let thread { pthread_join(thread, nil) }
    thread = nil
    OwnDescriptors.shared.remove(descriptor)
    close(descriptor)
    close(wake)
    if !isHandedOver { unlink(path) }
  }

  /// Waits until everything that was asked has been answered, at most until `deadlineNs`.
  func waitUntilAnswered(untilNs deadlineNs: UInt64) {
    while connections.load(ordering: .acquiring) > 0, Clock.monotonicNs() < deadlineNs { usleep(2000) }
  }

  private func accept() {
    while !isClosed.load(ordering: .acquiring) {
      var polled = [
        pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
      ]
      guard poll(&polled, 2, -1) > 0, polled[0].revents != 0 else { continue }
      let client = bp_shim_accept(descriptor)
      guard client >= 0 else {
        if errno == EINTR || errno == ECONNABORTED || errno == EAGAIN { continue }
        if errno == EMFILE || errno == ENFILE || errno == ENOMEM {
          usleep(50_000)
          continue
        }
        // A plugin may have closed it: the watchdog puts it back.
        if !isClosed.load(ordering: .acquiring), errno == EBADF || errno == ENOTSOCK || errno == EINVAL {
          usleep(50_000)
          continue
        }
        return
      }
      guard connections.load(ordering: .relaxed) < ControlServer.connectionsMax else {
        answer(client, ControlAnswer.failure("unavailable", "too many control connections are open"))
        close(client)
        continue
      }
      connections.add(1, ordering: .relaxed)
      // A reload may take a while: a thread for each, so that `status` never waits for it.
      let thread = Thread.start(name: "bp-control-peer") { [self] in
        serve(client)
        close(client)
        connections.subtract(1, ordering: .relaxed)
      }
      if let thread {
        pthread_detach(thread)
      } else {
        close(client)
        connections.subtract(1, ordering: .relaxed)
      }
    }
  }

  private func serve(_ client: Int32) {
    guard let line = readLine(client) else { return }
    answer(client, kernel.forward(line) ?? ControlCommands.answer(line, kernel))
  }

  private func readLine(_ client: Int32) -> [UInt8]? {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    let deadlineNs = Clock.monotonicNs() + UInt64(ControlServer.requestTimeoutMs) * 1_000_000
    while bytes.count < ControlServer.requestSizeBytesMax {
      var polled = pollfd(fd: client, events: Int16(POLLIN), revents: 0)
      let now = Clock.monotonicNs()
      guard now < deadlineNs, poll(&polled, 1, Int32((deadlineNs - now) / 1_000_000 + 1)) > 0 else { return nil }
      let count = read(client, &buffer, buffer.count)
      guard count > 0 else { return nil }
      bytes.append(contentsOf: buffer[0..<count])
      if let end = bytes.firstIndex(of: 0x0a) { return Array(bytes[..<end]) }
    }
    return nil
  }

  private func answer(_ client: Int32, _ data: Data) {
    let bytes = [UInt8](data) + [0x0a]
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return }
      sent += count
    }
  }
}
