import BackplaneABI
import Glibc
import IsolationWire
import Synchronization
import SystemShims

/// The plugin of this process: its tables, and what the kernel asks of it.
///
/// Frames come on the reader's thread. Life-cycle functions run on a control thread; data functions run the way their
/// mode asks for: what completes at once or never blocks on the reader itself, what may block on threads of its own.
final class HostedPlugin: FrameHandler, @unchecked Sendable {
  // @unchecked: the tables are written by the control thread, and the kernel sends no call before it has had the answer
  // of the function that wrote them; the rest is fixed or locked.
  let connection: Connection
  let asking: AskingSocket
  let nodeCalls = NodeCalls()
  private let answering: AskingSocket
  private let calls = CallTable()
  private let control = Workers(name: "bp-control", threads: 1)
  private var loaded = LoadedPlugin()
  /// The operations' modes, which change when a promise is broken.
  private var modes = Modes()
  private lazy var blocking = Workers(name: "bp-blocking", threads: 4)
  /// One thread, because apply promises an order.
  private lazy var applying = Workers(name: "bp-applying", threads: 1)

  /// What a service is told is one thing after the other.
  private lazy var noticing = Workers(name: "bp-notice", threads: 1)

  private struct Modes {
    var apply = BP_MODE_ASYNC
    var read = BP_MODE_ASYNC
    var scan = BP_MODE_ASYNC
    var query = BP_MODE_ASYNC
    var judge = BP_MODE_ASYNC
  }

  init(_ connection: Connection, asking: AskingSocket, answering: AskingSocket) {
    self.connection = connection
    self.asking = asking
    self.answering = answering
  }

  func hasExtension(_ id: String) -> Bool { loaded.hostExtensions.contains(id) }

  // MARK: From the plugin

  func complete(_ token: bp_token, _ result: UnsafePointer<bp_result>) {
    guard let call = calls.close(token) else { return }
    _ = connection.sendCompleted(token, call.shape, result, message: call.message.map { MessageViews($0) })
    call.received.release(connection)
    calls.closed(token)
  }

  func emit(_ token: bp_token, _ chunk: UnsafePointer<bp_chunk>) -> bp_code {
    let code = calls.spend(token, max(1, chunk.pointee.count))
    guard code == BP_OK else { return code }
    return connection.sendChunk(token, chunk) == .sent ? BP_OK : BP_CLOSED
  }

  private func fail(_ token: bp_token, _ code: bp_code, _ message: StaticString) {
    guard let call = calls.close(token) else { return }
    BareResult.with(call.shape, code, message, isRetryable: false) {
      _ = connection.sendCompleted(token, call.shape, $0)
    }
    call.received.release(connection)
    calls.closed(token)
  }

  // MARK: From the kernel

  func handle(_ frame: inout Frame) -> Bool {
    switch frame.kind {
    case .read: return read(&frame)
    case .apply: return apply(&frame)
    case .judge: return judge(&frame)
    case .scan: return scan(&frame)
    case .query: return query(&frame)
    case .nodeCompleted: return nodeCalls.completed(frame.id, frame.payload)
    case .feedItem: return nodeCalls.feedItem(frame.id, frame.payload)
    case .nodeChunk: return nodeCalls.item(frame.id, frame.payload)
    case .cancel:
      calls.cancel(frame.id)
      loaded.plugin?.pointee.cancel?(loaded.pointer, frame.id)
      return true
    case .grant:
      guard let credits = ReceivedNodeCall.number(frame.payload) else { return false }
      calls.grant(frame.id, UInt32(truncatingIfNeeded: credits))
      loaded.plugin?.pointee.grant?(loaded.pointer, frame.id, UInt32(truncatingIfNeeded: credits))
      return true
    case .exportState: return exportState(&frame)
    case .importState: return importState(&frame)
    case .nodeReady: return notice(&frame, loaded.service?.pointee.node_ready)
    case .nodeEnding: return notice(&frame, loaded.service?.pointee.node_ending)
    case .askConnections:
      if let connections = loaded.transport?.pointee.connections {
        connection.sendConnections(connections(loaded.pointer))
      }
      return true
    case .greeting, .create, .configure, .start, .quiesce, .stop, .destroy: return step(frame)
    default: return false
    }
  }

  private func read(_ frame: inout Frame) -> Bool {
    let token = frame.id
    let mode = modes.read
    guard let (received, read) = ReceivedCall.read(&frame, staysInFrame: mode == BP_MODE_DIRECT) else { return false }
    calls.open(token, CallTable.Call(received: received, shape: .read))
    guard let function = loaded.backend?.pointee.read else { return refuse(token) }
    if mode == BP_MODE_BLOCKING {
      let request = Unchecked(read)
      blocking.submit { [loaded] in function(loaded.pointer, request.value, 1) }
    } else {
      function(loaded.pointer, read, 1)
      if mode == BP_MODE_DIRECT, calls.isOpen(token) { broke(&modes.read, "read", token) }
    }
    return true
  }

  private func apply(_ frame: inout Frame) -> Bool {
    let token = frame.id
    let mode = modes.apply
    guard let (received, unit) = ReceivedCall.unit(&frame, staysInFrame: mode == BP_MODE_DIRECT) else { return false }
    calls.open(token, CallTable.Call(received: received, shape: .write))
    guard let function = loaded.backend?.pointee.apply else { return refuse(token) }
    if mode == BP_MODE_BLOCKING {
      let request = Unchecked(unit)
      applying.submit { [loaded] in function(loaded.pointer, request.value, 1) }
    } else {
      function(loaded.pointer, unit, 1)
      if mode == BP_MODE_DIRECT, calls.isOpen(token) { broke(&modes.apply, "apply", token) }
    }
    return true
  }

  private func scan(_ frame: inout Frame) -> Bool {
    let token = frame.id
    let mode = modes.scan
    guard let (received, scan) = ReceivedCall.scan(&frame, staysInFrame: mode == BP_MODE_DIRECT) else { return false }
    calls.open(token, CallTable.Call(received: received, shape: .scan))
    guard let function = loaded.backend?.pointee.scan else { return refuse(token) }
    if mode == BP_MODE_BLOCKING {
      let request = Unchecked(scan)
      blocking.submit { [loaded] in function(loaded.pointer, request.value) }
    } else {
      function(loaded.pointer, scan)
      if mode == BP_MODE_DIRECT, calls.isOpen(token) { broke(&modes.scan, "scan", token) }
    }
    return true
  }

  private func query(_ frame: inout Frame) -> Bool {
    let token = frame.id
    let mode = modes.query
    guard let (received, query) = ReceivedCall.query(&frame, staysInFrame: mode == BP_MODE_DIRECT) else {
      return false
    }
    calls.open(token, CallTable.Call(received: received, shape: .query))
    guard let function = loaded.queries?.pointee.query else { return refuse(token) }
    if mode == BP_MODE_BLOCKING {
      let request = Unchecked(query)
      blocking.submit { [loaded] in function(loaded.pointer, request.value) }
    } else {
      function(loaded.pointer, query)
      if mode == BP_MODE_DIRECT, calls.isOpen(token) { broke(&modes.query, "query", token) }
    }
    return true
  }

  private func judge(_ frame: inout Frame) -> Bool {
    let token = frame.id
    let mode = modes.judge
    guard let (received, call, message) = ReceivedCall.judgement(&frame, staysInFrame: mode == BP_MODE_DIRECT) else {
      return false
    }
    calls.open(token, CallTable.Call(received: received, shape: .verdict, message: message))
    guard let function = loaded.schema?.pointee.judge else { return refuse(token) }
    if mode == BP_MODE_BLOCKING {
      let request = Unchecked((call, message))
      blocking.submit { [loaded] in function(loaded.pointer, request.value.0, request.value.1, token) }
    } else {
      function(loaded.pointer, call, message, token)
      if mode == BP_MODE_DIRECT, calls.isOpen(token) { broke(&modes.judge, "judge", token) }
    }
    return true
  }

  private func exportState(_ frame: inout Frame) -> Bool {
    let token = frame.id
    guard let (received, call, request) = ReceivedCall.export(&frame) else { return false }
    calls.open(token, CallTable.Call(received: received, shape: .plain), credits: request.pointee.credits)
    guard let function = loaded.state?.pointee.export_state else { return refuse(token) }
    function(loaded.pointer, call, request, token)
    return true
  }

  private func importState(_ frame: inout Frame) -> Bool {
    let token = frame.id
    guard let (received, call, request) = ReceivedCall.import(&frame) else { return false }
    calls.open(token, CallTable.Call(received: received, shape: .plain))
    guard let function = loaded.state?.pointee.import_state else { return refuse(token) }
    function(loaded.pointer, call, request, token)
    return true
  }

  private typealias Notice =
    @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<bp_call>?, bp_token) -> Void

  /// Not on the reader, which brings what the service asks of the node.
  private func notice(_ frame: inout Frame, _ function: Notice?) -> Bool {
    let token = frame.id
    guard let (received, call) = ReceivedCall.notice(&frame) else { return false }
    calls.open(token, CallTable.Call(received: received, shape: .plain))
    guard let function else { return refuse(token) }
    let request = Unchecked(call)
    noticing.submit { [loaded] in function(loaded.pointer, request.value, token) }
    return true
  }

  private func refuse(_ token: bp_token) -> Bool {
    fail(token, BP_UNIMPLEMENTED, "the plugin has no such function")
    return true
  }

  /// The plugin said `direct` and returned with the call open: its request lies in the reader's buffer, so the call ends
  /// here, and the operation runs on threads from now on.
  private func broke(_ mode: inout UInt32, _ operation: StaticString, _ token: bp_token) {
    mode = BP_MODE_BLOCKING
    let message: StaticString =
      "a plugin returned from a direct operation without completing it; the operation runs on threads from now on"
    let key: StaticString = "operation"
    func view(_ text: StaticString) -> bp_view { bp_view(data: text.utf8Start, size: UInt64(text.utf8CodeUnitCount)) }
    var field = bp_field(key: view(key), value: view(operation))
    connection.sendLog(BP_LOG_WARNING, view(message), &field, 1)
    fail(token, BP_INTERNAL, "the plugin did not complete a call that it declared direct")
  }

  private struct Unchecked<Value>: @unchecked Sendable {
    // @unchecked: memory of a received call, which lives until the plugin completes it.
    let value: Value
    init(_ value: Value) { self.value = value }
  }

  // MARK: Life cycle

  private func step(_ frame: Frame) -> Bool {
    guard let kind = frame.kind else { return false }
    let id = frame.id
    let payload = Array(frame.payload)
    control.submit { [self] in
      let answer = payload.withUnsafeBytes { run(kind, $0) }
      guard let answer else {
        connection.shutDown()
        return
      }
      connection.sendAnswer(id, answer)
    }
    return true
  }

  /// Nil when the frame breaks the rules.
  private func run(_ kind: FrameKind, _ payload: UnsafeRawBufferPointer) -> LifeCycleAnswer? {
    if kind == .greeting {
      guard let greeting = Greeting(payload) else { return nil }
      return loaded.load(greeting)
    }
    let reporter = Reporter()
    if kind == .configure {
      let code = ReceivedConfiguration.with(payload) { configuration in
        reporter.with { loaded.plugin?.pointee.configure?(loaded.pointer, configuration, $0) ?? BP_UNIMPLEMENTED }
      }
      guard let code else { return nil }
      var answer = LifeCycleAnswer(code: code, diagnostics: reporter.diagnostics)
      if code == BP_OK {
        answer.facts = loaded.bindKinds()
        takeModes()
      }
      return answer
    }
    guard let deadlineNs = ReceivedNodeCall.number(payload) else { return nil }
    let code = reporter.with { report -> bp_code in
      switch kind {
      case .create: loaded.create(HostTables.host, HostTables.instance, report)
      case .start: loaded.plugin?.pointee.start?(loaded.pointer, deadlineNs, report) ?? BP_OK
      case .quiesce: loaded.plugin?.pointee.quiesce?(loaded.pointer, deadlineNs, report) ?? BP_OK
      case .stop: loaded.plugin?.pointee.stop?(loaded.pointer, deadlineNs, report) ?? BP_OK
      default: loaded.destroy()
      }
    }
    return LifeCycleAnswer(code: code, diagnostics: reporter.diagnostics)
  }

  private func takeModes() {
    if let backend = loaded.backend {
      modes.apply = backend.pointee.apply_mode
      modes.read = backend.pointee.read_mode
      modes.scan = backend.pointee.scan_mode
      modes.query = loaded.queries?.pointee.mode ?? BP_MODE_ASYNC
    }
    if let schema = loaded.schema {
      modes.judge = schema.pointee.judge_mode
      if schema.pointee.canonical_uri != nil { answerCanonical() }
    }
  }

  /// The kernel waits for these answers, so they have a thread of their own.
  private func answerCanonical() {
    guard !answersCanonical.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let thread = WireThread.start(name: "bp-canonical") { [self] in
      bp_shim_report_crashes_of_this_thread()
      while let question = try? answering.next() {
        var written: [UInt8] = []
        let code = question.bytes { uri in
          withUnsafeMutablePointer(to: &written) { pointer in
            loaded.schema?.pointee.canonical_uri?(
              loaded.pointer, uri,
              bp_sink(
                context: pointer,
                write: { context, view in
                  context!.assumingMemoryBound(to: [UInt8].self).pointee.append(
                    contentsOf: UnsafeBufferPointer(start: view.data, count: Int(view.size)))
                }))
          }
        }
        guard answering.replyCode(question, (code ?? nil) ?? BP_UNIMPLEMENTED, bytes: written) else { return }
      }
    }
    if let thread { pthread_detach(thread) }
  }

  private let answersCanonical = Atomic<Bool>(false)
}

/// Collects what a life-cycle function reports, on its thread.
private final class Reporter {
  private(set) var diagnostics: [LifeCycleAnswer.Diagnostic] = []

  func with<R>(_ body: (UnsafePointer<bp_report>) -> R) -> R {
    var report = bp_report(
      context: Unmanaged.passUnretained(self).toOpaque(),
      add: { context, diagnostic in
        let diagnostic = diagnostic!.pointee
        let reporter = Unmanaged<Reporter>.fromOpaque(context!).takeUnretainedValue()
        guard reporter.diagnostics.count < LifeCycleAnswer.diagnosticsMax else { return }
        func text(_ view: bp_view) -> String {
          String(decoding: UnsafeBufferPointer(start: view.data, count: Int(view.size)), as: UTF8.self)
        }
        reporter.diagnostics.append(
          LifeCycleAnswer.Diagnostic(
            severity: diagnostic.severity, pointer: text(diagnostic.pointer), message: text(diagnostic.message)))
      })
    return body(&report)
  }
}
