import PluginAPI
import Synchronization

/// One instance as the host sees it: its open calls, what it said, what it did wrong. Reached from the C functions of
/// the host table by the instance's number, so it never holds the plugin itself alive.
final class HostCore: Sendable {
  enum Life: Int, Comparable {
    case created, configured, starting, serving, quiesced, stopped, destroyed
    static func < (left: Life, right: Life) -> Bool { left.rawValue < right.rawValue }
  }

  struct State {
    var life = Life.created
    var calls: CallSlab
    var violations: [Violation] = []
    var logs: [LogEvent] = []
    var metrics: [MetricSeries] = []
    var health: HealthReport?
    var listeners: [String: LoopbackListener] = [:]
    var hostCalls: [bp_token: Task<Void, Never>] = [:]
    var hostCallsNext: bp_token = 1
    var lateCompletionsCount = 0
    var threadsInside = 0
    /// What backplane.observe/1 answers; nil: how the plugin itself is.
    var observedHealth: NodeHealth?
    var observedOperations: [OperationCounts] = []
  }

  let instance: bp_instance
  let slot: String
  let node: any TestNode
  let feed: ScriptedFeed
  let proposals = ScriptedProposals()
  let timers: TestTimers
  /// In a probe host extensions answer BP_UNAVAILABLE.
  let isProbe: Bool
  let state: Mutex<State>

  init(
    instance: bp_instance, slot: String, node: any TestNode, feed: ScriptedFeed, timers: TestTimers, isProbe: Bool
  ) {
    self.instance = instance
    self.slot = slot
    self.node = node
    self.feed = feed
    self.timers = timers
    self.isProbe = isProbe
    state = Mutex(State(calls: CallSlab(instance: instance)))
  }

  var life: Life { state.withLock { $0.life } }

  func violate(_ kind: Violation.Kind, _ text: String) {
    state.withLock { $0.violations.append(Violation(kind: kind, text: text)) }
  }

  /// The text of a view; records a violation when it is not UTF-8.
  func text(_ view: bp_view, _ what: String) -> String {
    if let text = String(validating: view.bytes, as: UTF8.self) { return text }
    violate(.textNotUTF8, "\(what) is not UTF-8")
    return view.text
  }

  // MARK: Calls to the plugin

  func open(_ call: OpenCall) -> bp_token { state.withLock { $0.calls.insert(call) } }

  func isOpen(_ token: bp_token) -> Bool {
    state.withLock {
      if case .open = $0.calls.find(token) { true } else { false }
    }
  }

  /// `bp_host.complete`.
  func complete(_ token: bp_token, _ result: UnsafePointer<bp_result>) {
    let call: OpenCall? = state.withLock { state in
      switch state.calls.find(token) {
      case .open(let call):
        state.calls.remove(token)
        if state.life >= .stopped {
          state.violations.append(
            Violation(kind: .completedAfterStop, text: "token \(token) was completed after stop had returned"))
        }
        return call
      case .finished:
        let late = state.life >= .stopped
        state.violations.append(
          Violation(
            kind: late ? .completedAfterStop : .completedTwice,
            text: "token \(token) was completed \(late ? "after stop had returned" : "a second time")"))
      case .foreign:
        state.violations.append(
          Violation(kind: .foreignToken, text: "token \(token) was completed; it belongs to another instance"))
      case .unknown:
        state.violations.append(
          Violation(kind: .unknownToken, text: "token \(token) was completed; this host never gave it out"))
      }
      return nil
    }
    guard let call else { return }
    wakeInput(call)
    let size = Int(result.pointee.size)
    if size < call.resultSize {
      violate(
        .resultTooSmall,
        "token \(token) was completed with size \(size); \(call.resultName) has \(call.resultSize) bytes")
    }
    if size >= MemoryLayout<bp_result>.size {
      _ = text(result.pointee.message, "the message of the result of token \(token)")
      _ = text(result.pointee.detail, "the detail of the result of token \(token)")
    }
    let answer = state.withLock { state in
      defer { call.answer = nil }
      if call.answer == nil { state.lateCompletionsCount += 1 }
      call.timer?.cancel()
      return call.answer
    }
    if let answer { withSized(call.resultSize, copying: result, answer) }
    // The last reference to the arena goes with `call`: the request's memory ends here and not earlier.
    withExtendedLifetime(call) {}
  }

  /// Answers the caller although the plugin has not completed; token and memory stay until it does.
  func giveUp(_ token: bp_token, _ failure: Failure) {
    let found: (OpenCall, (@Sendable (UnsafePointer<bp_result>) -> Void))? = state.withLock { state in
      guard case .open(let call) = state.calls.find(token), let answer = call.answer else { return nil }
      call.isGivenUp = true
      call.answer = nil
      return (call, answer)
    }
    guard let (call, answer) = found else { return }
    wakeInput(call)
    failure.withResult(size: UInt32(call.resultSize)) { result in
      withUnsafePointer(to: result) { pointer in
        // The struct at `pointer` is a bare header: exactly that much is copied, the rest is zero.
        withSized(call.resultSize, copying: pointer, limit: MemoryLayout<bp_result>.size, answer)
      }
    }
  }

  func markGivenUp(_ token: bp_token) {
    state.withLock { state in
      if case .open(let call) = state.calls.find(token) { call.isGivenUp = true }
    }
  }

  /// A copy of `result` that is as long as the kind's struct, whatever the plugin says its size is.
  private func withSized(
    _ size: Int, copying result: UnsafePointer<bp_result>, limit: Int = .max,
    _ body: (UnsafePointer<bp_result>) -> Void
  ) {
    withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { raw in
      raw.initializeMemory(as: UInt8.self, repeating: 0)
      raw.copyMemory(
        from: UnsafeRawBufferPointer(start: result, count: min(size, min(limit, Int(result.pointee.size)))))
      body(UnsafePointer(raw.baseAddress!.assumingMemoryBound(to: bp_result.self)))
    }
  }

  // MARK: Streams

  /// `bp_host.emit`.
  func emit(_ token: bp_token, _ chunk: UnsafePointer<bp_chunk>) -> bp_code {
    typealias Handler = @Sendable (UnsafePointer<bp_chunk>) -> Void
    let (code, handler): (bp_code, Handler?) = state.withLock { state in
      func violate(_ kind: Violation.Kind, _ text: String) {
        state.violations.append(Violation(kind: kind, text: text))
      }
      switch state.calls.find(token) {
      case .finished:
        violate(.emittedAfterCompletion, "a chunk was emitted to token \(token), which was completed already")
        return (BP_CLOSED, nil)
      case .foreign:
        violate(.foreignToken, "a chunk was emitted to token \(token) of another instance")
        return (BP_CLOSED, nil)
      case .unknown:
        violate(.unknownToken, "a chunk was emitted to token \(token), which this host never gave out")
        return (BP_CLOSED, nil)
      case .open(let call):
        if call.isGivenUp { return (BP_CANCELLED, nil) }
        if chunk.pointee.count == 0 { violate(.chunkWithoutCost, "a chunk of token \(token) has count 0") }
        let cost = UInt64(max(1, chunk.pointee.count))
        guard call.credits >= cost else {
          if call.wasRefused {
            violate(.emittedBeyondCredits, "token \(token) had no credit, was told so, and emitted again")
          }
          call.wasRefused = true
          return (BP_RESOURCE_EXHAUSTED, nil)
        }
        call.credits -= cost
        return (BP_OK, call.chunk)
      }
    }
    handler?(chunk)
    return code
  }

  /// Says whether the stream is still open.
  func addCredits(_ token: bp_token, _ credits: UInt32) -> Bool {
    state.withLock { state in
      guard case .open(let call) = state.calls.find(token) else { return false }
      call.credits += UInt64(credits)
      call.wasRefused = false
      return true
    }
  }
}
