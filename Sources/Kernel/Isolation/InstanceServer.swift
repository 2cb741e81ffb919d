import BackplaneABI
import Glibc
import IsolationWire
import Synchronization

/// Lets another kernel process use an instance of this one, over a connected stream socket: the other side has a
/// `RemoteInstance`. What comes is a call like any other, with a token of this kernel's.
///
/// Calls go to whatever has the instance's slot in the published generation, each with a lease of its own and writes
/// through the slot's fence: this kernel may replace the instance meanwhile. State goes to the instance itself.
final class InstanceServer: FrameHandler, @unchecked Sendable {
  // @unchecked: fixed in init, but for the calls, which are under a lock.
  private let instance: Instance
  private let connection: Connection
  private let canonical: AskingSocket?
  /// The other side's tokens of open calls, and ours.
  private let open = Mutex<[bp_token: Open]>([:])
  private struct Open {
    let instance: Instance
    let token: bp_token
  }
  /// Set when the other side has gone, or `shutDown` was called, and no thread of the server's is left.
  let ended = Promise<Bool>()

  /// Serves `instance` on `descriptor`, which is owned from now on, until the other side closes it. Nil when the system
  /// has no thread to give.
  static func serve(_ instance: Instance, on descriptor: Int32, canonical: Int32? = nil) -> InstanceServer? {
    let server = InstanceServer(instance, descriptor, canonical)
    return server.run() ? server : nil
  }

  private init(_ instance: Instance, _ descriptor: Int32, _ canonical: Int32?) {
    self.instance = instance
    connection = Connection(
      descriptor, memory: nil, patience: .handsOver,
      waitingBytesMax: instance.kernel.isolation.withLock { $0.waitingSizeBytesMax })
    self.canonical = canonical.map { AskingSocket($0, timeoutMs: 0) }
  }

  private func run() -> Bool {
    let answering = canonical.flatMap { socket in
      Thread.start(name: "bp-served") { [self] in answerCanonical(socket) }
    }
    let reader = Thread.start(name: "bp-served") { [self] in
      _ = Receiver.run(connection, .copies, self)
      connection.shutDown()
      connection.finish()
      canonical?.shutDown()
      if let answering { pthread_join(answering, nil) }
      // What the other side had open is given up; its completions go nowhere.
      for call in open.withLock({ Array($0.values) }) { call.instance.cancel(call.token) }
      ended.set(true)
    }
    guard let reader else {
      canonical?.shutDown()
      if let answering { pthread_join(answering, nil) }
      return false
    }
    pthread_detach(reader)
    return true
  }

  /// Ends the connection. Any thread but the server's own; wait for `ended`.
  func shutDown() { connection.shutDown() }

  // MARK: Calls

  /// One call of the other side's. Released by its completion.
  private final class ServedCall: @unchecked Sendable {
    // @unchecked: `received` is read by the completion, which comes once.
    let server: InstanceServer
    let token: bp_token
    let shape: ResultShape
    let received: ReceivedCall
    let message: MessageViews?
    let unit: Unchecked<UnsafeMutablePointer<bp_unit>>?
    let target: Instance
    let lease: Lease?
    /// It is inside the target's fence until it completes.
    let isFenced: Bool

    init(_ server: InstanceServer, _ waiting: Waiting, _ target: Instance, _ lease: Lease?) {
      self.server = server
      self.target = target
      self.lease = lease
      token = waiting.remote
      shape = waiting.shape
      received = waiting.received
      message = waiting.message
      unit = waiting.unit
      isFenced = waiting.operation == .apply && lease != nil
    }
  }

  func handle(_ frame: inout Frame) -> Bool {
    switch frame.kind {
    case .greeting:
      connection.sendAnswer(frame.id, LifeCycleAnswer(code: BP_OK, facts: facts))
      return true
    case .apply:
      guard let (received, unit) = ReceivedCall.unit(&frame, staysInFrame: false) else { return false }
      let request = Unchecked(unit)
      return serve(frame.id, .apply, .write, received, unit: request) { instance, token in
        request.value.pointee.token = token
        instance.backend?.pointee.apply(instance.pointer, request.value, 1)
      }
    case .read:
      guard let (received, read) = ReceivedCall.read(&frame, staysInFrame: false) else { return false }
      let request = Unchecked(read)
      return serve(frame.id, .read, .read, received) { instance, token in
        request.value.pointee.token = token
        instance.backend?.pointee.read(instance.pointer, request.value, 1)
      }
    case .scan:
      guard let (received, scan) = ReceivedCall.scan(&frame, staysInFrame: false) else { return false }
      let request = Unchecked(scan)
      return serve(frame.id, .scan, .scan, received) { instance, token in
        request.value.pointee.token = token
        instance.backend?.pointee.scan(instance.pointer, request.value)
      }
    case .query:
      guard let (received, query) = ReceivedCall.query(&frame, staysInFrame: false) else { return false }
      let request = Unchecked(query)
      return serve(frame.id, .query, .query, received) { instance, token in
        request.value.pointee.token = token
        instance.queries?.pointee.query(instance.pointer, request.value)
      }
    case .judge:
      guard let (received, call, message) = ReceivedCall.judgement(&frame, staysInFrame: false) else { return false }
      let request = Unchecked((call, message))
      return serve(frame.id, .judge, .verdict, received, MessageViews(message)) { instance, token in
        instance.schema?.pointee.judge(instance.pointer, request.value.0, request.value.1, token)
      }
    case .exportState:
      guard let (received, call, request) = ReceivedCall.export(&frame) else { return false }
      let whole = Unchecked((call, request))
      return serve(frame.id, .exportState, .plain, received) { instance, token in
        instance.stateTable?.pointee.export_state(instance.pointer, whole.value.0, whole.value.1, token)
      }
    case .importState:
      guard let (received, call, request) = ReceivedCall.import(&frame) else { return false }
      let whole = Unchecked((call, request))
      return serve(frame.id, .importState, .plain, received) { instance, token in
        instance.stateTable?.pointee.import_state(instance.pointer, whole.value.0, whole.value.1, token)
      }
    case .cancel:
      if let call = open.withLock({ $0[frame.id] }) { call.instance.cancel(call.token) }
      return true
    case .grant:
      guard let credits = ReceivedNodeCall.number(frame.payload) else { return false }
      if let call = open.withLock({ $0[frame.id] }) {
        call.instance.plugin?.pointee.grant?(call.instance.pointer, call.token, UInt32(truncatingIfNeeded: credits))
      }
      return true
    // The instance's life is its own kernel's.
    case .create, .configure, .start, .quiesce, .stop, .destroy:
      connection.sendAnswer(frame.id, LifeCycleAnswer(code: BP_OK))
      return true
    default: return false
    }
  }

  private struct Unchecked<Value>: @unchecked Sendable {
    // @unchecked: memory of a received call, which lives until the plugin completes it.
    let value: Value
    init(_ value: Value) { self.value = value }
  }

  /// A call of the other side's on its way to an instance.
  private struct Waiting: @unchecked Sendable {
    // @unchecked: memory of a received call, which is one thread's at a time.
    let remote: bp_token
    let operation: Operation
    let shape: ResultShape
    let received: ReceivedCall
    let message: MessageViews?
    /// What it applies.
    let unit: Unchecked<UnsafeMutablePointer<bp_unit>>?
    let submit: @Sendable (Instance, bp_token) -> Void
  }

  private func serve(
    _ remote: bp_token, _ operation: Operation, _ shape: ResultShape, _ received: ReceivedCall,
    _ message: MessageViews? = nil, unit: Unchecked<UnsafeMutablePointer<bp_unit>>? = nil,
    _ submit: @escaping @Sendable (Instance, bp_token) -> Void
  ) -> Bool {
    let waiting = Waiting(
      remote: remote, operation: operation, shape: shape, received: received, message: message, unit: unit,
      submit: submit)
    switch operation {
    // State goes to the instance that was made for it, before anything is published.
    case .exportState, .importState: begin(waiting, at: instance, nil)
    default: route(waiting)
    }
    return true
  }

  /// Finds the instance that has the slot now: this kernel may have replaced the one it began with.
  private func route(_ waiting: Waiting) {
    let ring = instance.kernel.ring
    guard let lease = ring.acquireAdmitted() else {
      // Nothing is published yet.
      return begin(waiting, at: instance, nil)
    }
    guard let target = lease.generation.instance(slot: instance.slot.name), target.slot.kind == instance.slot.kind
    else {
      return refuse(waiting, lease)
    }
    guard waiting.operation == .apply, let fence = target.fence else { return begin(waiting, at: target, lease) }
    while true {
      switch fence.enter() {
      case .passed: return begin(waiting, at: target, lease)
      case .moved:
        ring.release(lease)
        return route(waiting)
      case .raised:
        let parking = fence.park { [self] isMoved in
          guard isMoved else { return begin(waiting, at: target, lease) }
          ring.release(lease)
          route(waiting)
        }
        switch parking {
        case .parked: return
        case .lowered: continue
        case .moved:
          ring.release(lease)
          return route(waiting)
        case .full: return refuse(waiting, lease)
        }
      }
    }
  }

  /// The call is inside the target's fence, if that has one.
  private func begin(_ waiting: Waiting, at target: Instance, _ lease: Lease?) {
    let operation = waiting.operation
    let fence = operation == .apply && lease != nil ? target.fence : nil
    // Its predecessor had queries: the other side scans.
    if operation == .query, target.backend != nil, target.queries == nil {
      return refuse(waiting, lease, BP_UNIMPLEMENTED, "the instance answers no queries")
    }
    guard target.admits, isOffered(operation, by: target) else {
      fence?.leave()
      if let lease, target.isClosed, instance.kernel.ring.currentNumber != lease.number {
        instance.kernel.ring.release(lease)
        return route(waiting)
      }
      return refuse(waiting, lease)
    }
    let call = ServedCall(self, waiting, target, lease)
    let context = Unmanaged.passRetained(call)
    let token = CallSlab.shared.open(
      target, operation, context: context.toOpaque(),
      handler: { context, result in
        let call = Unmanaged<ServedCall>.fromOpaque(context!).takeRetainedValue()
        // Before the answer goes out: the other side may use its token's place again at once.
        _ = call.server.open.withLock { $0.removeValue(forKey: call.token) }
        if call.isFenced { call.target.fence?.leave() }
        if let unit = call.unit?.value.pointee, result!.pointee.code == BP_OK {
          call.target.kernel.feed.appendGap(UnsafeBufferPointer(start: unit.ops, count: Int(unit.ops_count)))
        }
        _ = call.server.connection.sendCompleted(call.token, call.shape, result!, message: call.message)
        call.received.release(call.server.connection)
        if let lease = call.lease { call.target.kernel.ring.release(lease) }
      },
      chunkHandler: { context, chunk in
        let call = Unmanaged<ServedCall>.fromOpaque(context!).takeUnretainedValue()
        return call.server.connection.sendChunk(call.token, chunk!) == .sent ? BP_OK : BP_CANCELLED
      }, startNs: Clock.monotonicNs())
    guard token != 0 else {
      context.release()
      fence?.leave()
      return refuse(waiting, lease)
    }
    open.withLock { $0[waiting.remote] = Open(instance: target, token: token) }
    if target.directness.mode(operation) == BP_MODE_DIRECT {
      // Here, and not on threads of the kernel's: what one caller applies must stay in its order.
      waiting.submit(target, token)
      if CallSlab.shared.operation(target.handle, token) != nil { BrokenPromise.revoke(target, operation, token) }
    } else {
      Dispatcher.run(target, operation, token) { waiting.submit(target, token) }
    }
  }

  private func refuse(
    _ waiting: Waiting, _ lease: Lease?, _ code: bp_code = BP_UNAVAILABLE,
    _ message: StaticString = "the instance takes no calls now"
  ) {
    waiting.received.release(connection)
    if let lease { instance.kernel.ring.release(lease) }
    Answers.with(code, message, retryable: code == BP_UNAVAILABLE, as: bp_list_result.self) {
      _ = connection.sendCompleted(waiting.remote, .plain, $0)
    }
  }

  private func isOffered(_ operation: Operation, by instance: Instance) -> Bool {
    switch operation {
    case .apply, .read, .scan: instance.backend != nil
    case .query: instance.queries != nil
    case .judge: instance.schema != nil
    case .exportState, .importState: instance.stateTable != nil
    case .nodeReady, .nodeEnding: false
    }
  }

  private var facts: PluginFacts {
    var facts = PluginFacts()
    if let backend = instance.backend {
      var about = PluginFacts.Backend()
      about.flags = backend.pointee.flags
      about.durabilityMax = backend.pointee.durability_max
      about.answersQueries = instance.queries != nil
      facts.backend = about
    }
    if let schema = instance.schema {
      var about = PluginFacts.Schema()
      about.flags = schema.pointee.flags
      about.hasCanonicalForm = schema.pointee.canonical_uri != nil
      about.programs = instance.programs.map { PluginFacts.Program(key: $0.key, flags: $0.flags) }
      facts.schema = about
    }
    // It is told of its node by its own kernel.
    if instance.service != nil { facts.service = PluginFacts.Service() }
    if let state = instance.stateTable {
      var about = PluginFacts.State()
      about.formatVersion = state.pointee.format_version
      about.formatVersionOldest = state.pointee.format_version_oldest
      facts.state = about
    }
    facts.cancels = instance.plugin?.pointee.cancel != nil
    facts.grants = instance.plugin?.pointee.grant != nil
    return facts
  }

  private func answerCanonical(_ socket: AskingSocket) {
    while let question = try? socket.next() {
      var written: [UInt8] = []
      let code = question.bytes { [instance] uri in
        withUnsafeMutablePointer(to: &written) { pointer in
          instance.schema?.pointee.canonical_uri?(
            instance.pointer, uri,
            bp_sink(
              context: pointer,
              write: { context, view in
                context!.assumingMemoryBound(to: [UInt8].self).pointee.append(contentsOf: view.bytes)
              })) ?? BP_UNIMPLEMENTED
        }
      }
      guard let code, socket.replyCode(question, code, bytes: written) else { return }
    }
  }
}
