import Foundation
import Synchronization

/// What systemd is told (sd_notify(3)): state lines in one datagram to NOTIFY_SOCKET. Does nothing without it.
struct ServiceManager: Sendable {
  /// Another process is the service's main one, and speaks for it.
  static let isSilent = Atomic<Bool>(false)

  private let path = ProcessInfo.processInfo.environment["NOTIFY_SOCKET"]

  func ready(status: String) { send("READY=1\nSTATUS=\(status)") }

  /// MONOTONIC_USEC must be in the same datagram, or systemd takes the reload for failed.
  func reloading() { send("RELOADING=1\nMONOTONIC_USEC=\(Clock.monotonicNs() / 1000)") }

  /// The service's main process is another one from now on; only then may that one speak.
  func mainProcess(_ pid: Int32) { send("MAINPID=\(pid)") }

  /// Asks for the time that ending may take, in case it is more than the unit grants.
  func stopping(timeoutMs: Int) { send("STOPPING=1\nEXTEND_TIMEOUT_USEC=\(timeoutMs * 1000)") }

  /// How often the manager wants to hear that the node is alive (WatchdogSec); nil when it does not.
  var watchdogPeriodNs: UInt64? {
    let environment = ProcessInfo.processInfo.environment
    guard let period = environment["WATCHDOG_USEC"].flatMap({ UInt64($0) }), period > 0 else { return nil }
    if let process = environment["WATCHDOG_PID"], process != "\(getpid())" { return nil }
    return period.multipliedReportingOverflow(by: 1000).partialValue
  }

  func isAlive() { send("WATCHDOG=1") }

  private func send(_ state: String) {
    guard !ServiceManager.isSilent.load(ordering: .acquiring), let path, !path.isEmpty else { return }
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    var bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
    // "@" stands for the abstract namespace.
    if bytes[0] == UInt8(ascii: "@") { bytes[0] = 0 }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    let text = Array(state.utf8)
    _ = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(descriptor, text, text.count, Int32(MSG_NOSIGNAL), $0, length)
      }
    }
  }
}
