import BackplaneABI
import Glibc
import Synchronization

/// What a service is told of the node (backplane/service.h): that it serves, and that it is about to end.
///
/// A plugin may block where it should not, so each notice is given on a thread of its own, which ends when the plugin has
/// completed it or its deadline has passed.
final class ServiceNotice: @unchecked Sendable {
  // @unchecked: `token` is written before the thread begins; the rest is constant, atomic or under its own lock.
  private enum Kind {
    case ready, ending

    var operation: Operation { self == .ready ? .nodeReady : .nodeEnding }
    var bound: String { self == .ready ? "reload.start_timeout_ms" : "a quarter of reload.drain_soft_ms" }
  }

  private let kind: Kind
  private let instance: Instance
  private let call: OwnedCall
  private var token: bp_token = 0
  /// Set when the plugin has completed it.
  private let completed = Promise<Bool>()
  /// Set when nobody waits for it any more.
  private let ended = Promise<Bool>()
  /// The sentence by which it was given up; empty while it was not.
  private let givenUp = Mutex("")

  private init(_ kind: Kind, _ instance: Instance, deadlineNs: UInt64) {
    self.kind = kind
    self.instance = instance
    call = OwnedCall(
      bp_call(
        size: UInt32(MemoryLayout<bp_call>.size), flags: 0, deadline_ns: deadlineNs, trace_id_high: 0,
        trace_id_low: 0, span_id: 0, idempotency_key_high: 0, idempotency_key_low: 0, parent: 0, generation: 0,
        peer: .empty), generation: 0, timeoutNsMax: 3_600_000_000_000)
  }

  /// Tells each service among `instances` that the node serves, unless it has been told already. Returns at once.
  ///
  /// On the thread that publishes them: none of them can be on its way out before.
  static func tellReady(_ instances: [Instance], timeoutMs: Int) {
    for instance in instances
    where instance.service?.pointee.node_ready != nil && instance.state == .serving
      && !instance.wasToldReady.exchange(true, ordering: .relaxed)
    {
      let deadlineNs = Clock.monotonicNs() + UInt64(timeoutMs) * 1_000_000
      ServiceNotice(.ready, instance, deadlineNs: deadlineNs).begin()
    }
  }

  /// Tells a service that has been told and has begun anew since.
  static func tellAgain(_ instance: Instance, timeoutMs: Int) {
    guard instance.wasToldReady.exchange(false, ordering: .relaxed) else { return }
    tellReady([instance], timeoutMs: timeoutMs)
  }

  /// Tells each service among `instances` that the node is about to end, and waits until all have said that they are
  /// done; at most until the deadline.
  static func tellEnding(_ instances: [Instance], untilNs deadlineNs: UInt64) {
    let notices = instances.filter { $0.service?.pointee.node_ending != nil && $0.state == .serving }.map {
      ServiceNotice(.ending, $0, deadlineNs: deadlineNs)
    }
    for notice in notices { notice.begin() }
    for notice in notices { _ = notice.ended.get() }
  }

  private func begin() {
    let context = Unmanaged.passRetained(self)
    token = CallSlab.shared.open(
      instance, kind.operation, context: context.toOpaque(),
      handler: { context, result in
        Unmanaged<ServiceNotice>.fromOpaque(context!).takeRetainedValue().wasCompleted(result!)
      }, startNs: call.sinceNs)
    guard token != 0 else {
      context.release()
      fail(CallFailure.tooManyCalls.message)
      return ended.set(true)
    }
    instance.stateCalls.add(1, ordering: .relaxed)
    let thread = Thread.start(name: "bp-notice") { [self] in
      run()
      ended.set(true)
    }
    guard let thread else {
      instance.stateCalls.subtract(1, ordering: .releasing)
      Answers.with(BP_RESOURCE_EXHAUSTED, "the system has no thread to give", as: bp_list_result.self) {
        CallSlab.shared.revoke(token, $0)
      }
      return ended.set(true)
    }
    pthread_detach(thread)
  }

  private func run() {
    let table = instance.service!
    let function = kind == .ready ? table.pointee.node_ready : table.pointee.node_ending
    ThreadMark.own.during(
      MarkedCall(kind.operation), instance.handle, startNs: call.sinceNs, header: call.header
    ) { function?(instance.pointer, call.header, token) }
    instance.stateCalls.subtract(1, ordering: .releasing)
    guard completed.get(untilNs: call.deadlineNs) == nil else { return }
    let sentence = "\(kind.operation.name) had not been completed in time (\(kind.bound))"
    givenUp.withLock { $0 = sentence }
    fail(sentence)
    instance.cancel(token)
  }

  private func wasCompleted(_ result: UnsafePointer<bp_result>) {
    defer { completed.set(true) }
    let givenUp = givenUp.withLock { $0 }
    if result.pointee.code == BP_OK {
      // Late, and well after all.
      if !givenUp.isEmpty, kind == .ready, instance.health.message == givenUp {
        instance.health = (BP_HEALTH_HEALTHY, "")
      }
    } else if givenUp.isEmpty {
      fail("\(kind.operation.name) failed: \(CallFailure(result).reason)")
    }
  }

  /// One that goes already says no more of itself.
  private func fail(_ sentence: String) {
    guard instance.state == .serving else { return }
    if kind == .ready { instance.health = (BP_HEALTH_UNHEALTHY, sentence) }
    instance.kernel.log.warning(
      "a service failed", ["slot": instance.slot.name, "plugin": instance.image.id, "reason": sentence])
  }
}
