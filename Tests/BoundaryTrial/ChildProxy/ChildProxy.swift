import Foundation
import PluginAPI
import Synchronization

@testable import boundary_trial_child

/// A plugin instance that lives in a child process. It offers `bp_plugin` and the kinds' tables, so that a host cannot
/// tell it from one in its own process. When the child ends, every call in flight is completed with `BP_UNAVAILABLE`.
///
/// What a child cannot carry is known from the shape of the functions: whatever returns a value at once
/// (`bp_transport.connections`) is answered here, from what this side knows.
final class ChildProxy: Sendable {
  enum Kind: Sendable { case apply, read, scan, generate }

  struct Reply: Sendable {
    var code: bp_code
    var diagnostics: [(severity: UInt32, pointer: String, message: String)] = []
  }

  private struct State {
    var calls: [bp_token: Kind] = [:]
    var isDead = false
    var violations = ""
  }

  let host: HostHandle
  let child: ChildProcess
  private let listeners: [String]
  private let tables: ProxyTables
  private let state = Mutex(State())
  private let replies = Inbox<Reply>()
  private let reader = Mutex<pthread_t?>(nil)

  /// What the child's own host saw its plugin do wrong.
  var violations: String { state.withLock { $0.violations } }

  init(_ host: HostHandle, file: String, slot: String, listeners: [String]) throws {
    let child = try ChildProcess(file: file, slot: slot)
    self.host = host
    self.child = child
    self.listeners = listeners
    guard var hello = child.wire.receive(), hello.type == .hello else {
      throw Failure.unavailable("the child ended before it said anything (signal \(child.wait()))")
    }
    let refusal = try hello.text()
    guard refusal.isEmpty else {
      child.hangUp()
      _ = child.wait()
      throw Failure.invalid(refusal)
    }
    tables = try ProxyTables(from: &hello)
  }

  /// The table, which keeps this object until destroy.
  func intoTable() -> UnsafePointer<bp_plugin> {
    tables.plugin.pointee.`self` = Unmanaged.passRetained(self).toOpaque()
    var thread = pthread_t()
    pthread_create(
      &thread, nil,
      { context in
        Unmanaged<ChildProxy>.fromOpaque(context!).takeRetainedValue().receive()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
    reader.withLock { $0 = thread }
    return UnsafePointer(tables.plugin)
  }

  static func with<R>(_ pointer: UnsafeMutableRawPointer?, _ body: (ChildProxy) -> R) -> R {
    body(Unmanaged<ChildProxy>.fromOpaque(pointer!).takeUnretainedValue())
  }

  // MARK: Life cycle, on control threads

  func step(_ frame: Frame, _ report: UnsafePointer<bp_report>?) -> bp_code {
    guard child.wire.send(frame), let reply = replies.next() else {
      add("the child process is gone", "", BP_SEVERITY_ERROR, report)
      return BP_UNAVAILABLE
    }
    for diagnostic in reply.diagnostics { add(diagnostic.message, diagnostic.pointer, diagnostic.severity, report) }
    return reply.code
  }

  private func add(_ message: String, _ pointer: String, _ severity: UInt32, _ report: UnsafePointer<bp_report>?) {
    pointer.withView { pointer in
      message.withView { message in
        var diagnostic = bp_diagnostic(
          size: .size(of: bp_diagnostic.self), severity: severity, pointer: pointer, message: message)
        report?.pointee.add(report?.pointee.context, &diagnostic)
      }
    }
  }

  func start(_ report: UnsafePointer<bp_report>?) -> bp_code {
    for name in listeners {
      guard let table = host.extensionTable("backplane.listener/1", as: bp_listener.self) else { continue }
      var socket = bp_listener_socket()
      socket.size = .size(of: bp_listener_socket.self)
      guard name.withView({ table.pointee.borrow(host.instance, $0, &socket) }) == BP_OK else { continue }
      var frame = Frame(.lend)
      frame.put(name)
      child.wire.send(frame, lending: socket.descriptor)
      close(socket.descriptor)
    }
    return step(Frame(.start), report)
  }

  func stop(_ report: UnsafePointer<bp_report>?) -> bp_code {
    let code = step(Frame(.stop), report)
    // After a crash everything is released: that is what stop is for.
    failCalls("the child process is stopped")
    return state.withLock { $0.isDead } ? BP_OK : code
  }

  func destroy() {
    child.hangUp()
    if let thread = reader.withLock({ $0 }) { pthread_join(thread, nil) }
    _ = child.wait()
  }

  func extensionTable(_ id: bp_view) -> UnsafeRawPointer? { tables.find(id) }

  // MARK: Calls

  /// Sends one call; a call to a child that is gone is completed here and now.
  func submit(_ kind: Kind, _ token: bp_token, _ frame: Frame) {
    let isDead = state.withLock { state in
      if !state.isDead { state.calls[token] = kind }
      return state.isDead
    }
    // A send that fails is answered by the reader, which sees the same end.
    if isDead { fail(kind, token, "the child process is gone") } else { child.wire.send(frame) }
  }

  /// Takes the call out; false when it has been completed already.
  private func take(_ token: bp_token) -> Bool { state.withLock { $0.calls.removeValue(forKey: token) != nil } }

  private func failCalls(_ reason: String) {
    let calls = state.withLock { state in
      defer { state.calls = [:] }
      return state.calls
    }
    for (token, kind) in calls { fail(kind, token, reason) }
  }

  private func fail(_ kind: Kind, _ token: bp_token, _ reason: String) {
    fail(kind, token, .unavailable(reason))
  }

  private func fail(_ kind: Kind, _ token: bp_token, _ failure: Failure) {
    switch kind {
    case .apply: host.fail(token, failure, as: bp_write_result.self)
    case .read: host.fail(token, failure, as: bp_read_result.self)
    case .scan: host.fail(token, failure, as: bp_scan_result.self)
    case .generate: host.fail(token, failure, as: bp_llm_result.self)
    }
  }

  // MARK: The reader's thread

  private func receive() {
    while var frame = child.wire.receive() {
      do { try handle(&frame) } catch { break }
    }
    state.withLock { $0.isDead = true }
    child.hangUp()
    let signal = child.wait()
    if signal != 0 {
      "the child process ended with signal \(signal)".withView {
        host.table.pointee.health(host.instance, BP_HEALTH_UNHEALTHY, $0)
      }
    }
    failCalls("the child process ended with signal \(signal)")
    replies.close()
  }

  private func handle(_ frame: inout Frame) throws {
    switch frame.type {
    case .reply:
      var reply = Reply(code: try frame.small())
      for _ in 0..<(try frame.small()) {
        reply.diagnostics.append((try frame.small(), try frame.text(), try frame.text()))
      }
      let violations = try frame.text()
      state.withLock { $0.violations = violations }
      replies.put(reply)
    case .chunk: try ProxyAnswers.chunk(&frame, host)
    case .generated:
      let token = try frame.number()
      if take(token) { try ProxyAnswers.generated(&frame, token, host) }
    case .written, .found, .page:
      let token = try frame.number()
      let code = try frame.small()
      let message = try frame.text()
      let isRetryable = try frame.small() != 0
      let kind: Kind = frame.type == .written ? .apply : frame.type == .found ? .read : .scan
      guard take(token) else { return }
      guard code == BP_OK else {
        return fail(kind, token, Failure(code: code, message, isRetryable: isRetryable))
      }
      switch kind {
      case .apply: try ProxyAnswers.written(&frame, token, host)
      case .read: try ProxyAnswers.found(&frame, token, host)
      default: try ProxyAnswers.page(&frame, token, host)
      }
    default: throw FrameError()
    }
  }
}

/// Values from one thread to another; nil when closed.
final class Inbox<Value: Sendable>: @unchecked Sendable {
  // @unchecked: `values` and `isClosed` are only touched under the condition's lock.
  private let condition = NSCondition()
  private var values: [Value] = []
  private var isClosed = false

  func put(_ value: Value) {
    condition.lock()
    values.append(value)
    condition.signal()
    condition.unlock()
  }

  func close() {
    condition.lock()
    isClosed = true
    condition.broadcast()
    condition.unlock()
  }

  func next() -> Value? {
    condition.lock()
    defer { condition.unlock() }
    while values.isEmpty && !isClosed { condition.wait() }
    return values.isEmpty ? nil : values.removeFirst()
  }
}
