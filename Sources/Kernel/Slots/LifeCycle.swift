import BackplaneABI
import Glibc
import Synchronization

/// The life-cycle calls of instances. Each runs on a thread of its own with a time limit: a function that does not come
/// back is abandoned with its thread, and its instance is never called again.
enum LifeCycle {
  /// How long after its deadline a function may come back and still count: it was told to use its time.
  private static let graceNs: UInt64 = 1_000_000_000

  enum Outcome {
    case returned(bp_code)
    case timedOut
  }

  /// Runs one life-cycle function. The report goes to `diagnostics`.
  static func run(
    _ instance: Instance, _ call: MarkedCall, timeoutMs: Int, _ diagnostics: Diagnostics,
    _ body: @escaping @Sendable (Instance, UnsafePointer<bp_report>, _ deadlineNs: UInt64) -> bp_code
  ) -> Outcome {
    let promise = Promise<bp_code>()
    let deadlineNs = Clock.monotonicNs() + UInt64(timeoutMs) * 1_000_000
    let thread = Thread.start(name: "bp-control") {
      let code = ThreadMark.own.during(call, instance.handle, startNs: Clock.monotonicNs()) {
        diagnostics.with { body(instance, $0, deadlineNs) }
      }
      promise.set(code)
    }
    guard let thread else {
      diagnostics.add("the system has no thread to give: \(String(cString: strerror(errno)))")
      return .returned(BP_RESOURCE_EXHAUSTED)
    }
    guard let code = promise.get(untilNs: deadlineNs + graceNs) else {
      pthread_detach(thread)
      return .timedOut
    }
    pthread_join(thread, nil)
    return .returned(code)
  }

  /// Configures on the calling thread; bounded by whoever calls (a probe, or `run`).
  static func configure(
    _ instance: Instance, purpose: UInt32, stateDirectory: String, _ diagnostics: Diagnostics
  ) -> bp_code {
    guard let configure = instance.plugin?.pointee.configure else {
      diagnostics.add("the plugin has no configure function")
      return BP_UNIMPLEMENTED
    }
    var slot = instance.slot.name
    var json = instance.slot.json
    var directory = stateDirectory
    return slot.withUTF8 { slot in
      json.withUTF8 { json in
        directory.withUTF8 { directory in
          var configuration = bp_configuration(
            size: UInt32(MemoryLayout<bp_configuration>.size), purpose: purpose, slot: bp_view(slot),
            json: bp_view(json), state_directory: bp_view(directory))
          return diagnostics.with { configure(instance.pointer, &configuration, $0) }
        }
      }
    }
  }

  /// One step of the way out; false when the instance is wedged now.
  private static func step(
    _ instance: Instance, _ call: MarkedCall, _ timeoutMs: Int,
    _ body: @escaping @Sendable (Instance, UnsafePointer<bp_report>, UInt64) -> bp_code
  ) -> Bool {
    guard case .timedOut = run(instance, call, timeoutMs: timeoutMs, Diagnostics(), body) else { return true }
    wedge(instance, call.name)
    return false
  }

  @discardableResult
  static func quiesce(_ instance: Instance, timeoutMs: Int) -> Bool {
    guard instance.state == .serving else { return instance.state != .wedged }
    // A notice that is on its way comes before, or not at all.
    guard instance.service == nil || endStateCalls(of: instance, timeoutMs) else { return false }
    let isBack = step(instance, .quiesce, timeoutMs) { $0.plugin!.pointee.quiesce?($0.pointer, $2, $1) ?? BP_OK }
    if isBack { instance.state = .quiesced }
    return isBack
  }

  /// Quiesces, stops and destroys, each bounded. False when the instance is wedged.
  static func retire(_ instance: Instance, quiesceMs: Int, stopMs: Int) -> Bool {
    instance.close()
    guard instance.plugin != nil else {
      instance.giveListenersBack()
      InstanceRegistry.shared.withdraw(instance)
      return true
    }
    guard instance.state != .wedged, quiesce(instance, timeoutMs: quiesceMs) else { return false }
    let isStarted = instance.state == .quiesced
    // core.h, stop: every call that the instance made to the host has been completed before, and it can make no other.
    instance.state = .stopping
    guard endCalls(of: instance, stopMs), endStateCalls(of: instance, stopMs) else { return false }
    if isStarted {
      guard step(instance, .stop, stopMs, { $0.plugin!.pointee.stop?($0.pointer, $2, $1) ?? BP_OK }) else {
        return false
      }
    }
    instance.state = .stopped
    guard instance.stopWorkers(untilNs: Clock.monotonicNs() + UInt64(stopMs) * 1_000_000) else {
      wedge(instance, "a call on a thread of the kernel's")
      return false
    }
    // Tokens that stop should have completed are the host's to end: a late completion is ignored.
    for token in CallSlab.shared.openTokens(of: instance) {
      Answers.with(
        BP_UNAVAILABLE, "the plugin was stopped without completing the call", retryable: true,
        as: bp_list_result.self
      ) { CallSlab.shared.revoke(token, $0) }
    }
    // A thread of its own may have been on its way in when the state changed.
    guard endCalls(of: instance, stopMs) else { return false }
    let isDestroyed = step(instance, .destroy, stopMs) { instance, _, _ in
      instance.plugin!.pointee.destroy(instance.pointer)
      return BP_OK
    }
    guard isDestroyed else { return false }
    instance.state = .destroyed
    instance.giveListenersBack()
    InstanceRegistry.shared.withdraw(instance)
    return true
  }

  /// Gives up what the instance has asked of the node and waits until it has been told. False when it is wedged now.
  private static func endCalls(of instance: Instance, _ stopMs: Int) -> Bool {
    let patienceNs = Clock.monotonicNs() + UInt64(stopMs) * 1_000_000
    while true {
      instance.kernel.requests.cancelAll(of: instance)
      instance.kernel.feed.cancelAll(of: instance.handle)
      instance.kernel.timers.cancelAll(of: instance.handle)
      if instance.outgoing.load(ordering: .acquiring) == 0 { return true }
      guard Clock.monotonicNs() < patienceNs else {
        wedge(instance, "its calls to the host")
        return false
      }
      usleep(1000)
    }
  }

  /// Waits for threads of a handover that was given up, or of a notice. False when the instance is wedged now.
  private static func endStateCalls(of instance: Instance, _ stopMs: Int) -> Bool {
    let patienceNs = Clock.monotonicNs() + UInt64(stopMs) * 1_000_000
    while instance.stateCalls.load(ordering: .acquiring) > 0 {
      guard Clock.monotonicNs() < patienceNs else {
        wedge(instance, instance.service == nil ? "a handover of its state" : "node_ready")
        return false
      }
      usleep(1000)
    }
    return true
  }

  private static func wedge(_ instance: Instance, _ step: String) {
    instance.kernel.wedged.add(instance, in: step)
  }
}
