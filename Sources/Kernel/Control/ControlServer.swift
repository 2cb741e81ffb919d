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
  private var descriptor: Int32 { number.load(ordering: .acquiring) }
  private let path: String
  private unowned let kernel: Kernel
  private let isClosed = Atomic<Bool>(false)
  private let connections = Atomic<Int>(0)
  private var thread: pthread_t?

  init(path: String, kernel: Kernel) throws {
    guard let descriptor = UnixSocket.listen(path: path, mode: 0o600) else {
      throw Refusal(
        file: path, phase: .started, code: "control.unavailable",
        sentence: "the control socket \(path) cannot be made (\(String(cString: strerror(errno)))); make "
          + "directories.runtime writable and short")
    }
    number = Atomic(descriptor)
    self.path = path
    self.kernel = kernel
    OwnDescriptors.shared.add(descriptor, "the control socket") { [weak self] in
      self?.number.store($0, ordering: .releasing)
    }
    thread = Thread.start(name: "bp-control-socket") { [self] in accept() }
  }

  func shutDown() {
    isClosed.store(true, ordering: .releasing)
    Glibc.shutdown(descriptor, Int32(SHUT_RDWR))
    if let thread { pthread_join(thread, nil) }
    thread = nil
    OwnDescriptors.shared.remove(descriptor)
    close(descriptor)
    unlink(path)
  }

  private func accept() {
    while !isClosed.load(ordering: .acquiring) {
      let client = bp_shim_accept(descriptor)
      guard client >= 0 else {
        if errno == EINTR || errno == ECONNABORTED { continue }
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
    answer(client, ControlCommands.answer(line, kernel))
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
