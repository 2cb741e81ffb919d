import PluginAPI

/// One call on its way.
public final class TestCall<Answer: Sendable>: Sendable {
  public let token: bp_token
  let core: HostCore
  let table: TestHost.Table
  let end: OneShot<Answer>

  init(token: bp_token, core: HostCore, table: TestHost.Table, end: OneShot<Answer>) {
    self.token = token
    self.core = core
    self.table = table
    self.end = end
  }

  /// The answer: the plugin's completion, or the host's own when the deadline passed first.
  public var value: Answer { get async { await end.value } }

  /// Whether the caller has been answered.
  public var isAnswered: Bool { end.isSet }

  /// Whether the plugin has completed the token (after a deadline it may still have to).
  public var isCompleted: Bool { !core.isOpen(token) }

  /// Gives the call up. Best effort: the plugin's completion still comes, and is `value`.
  public func cancel() {
    core.markGivenUp(token)
    table.pointer.pointee.cancel?(table.`self`, token)
  }
}

extension TestHost {
  /// A table of the instance's by name, or nil.
  public func extensionTable<T>(_ id: String, as type: T.Type) -> UnsafePointer<T>? {
    let raw = id.withView { table.pointer.pointee.extension(table.`self`, $0) }
    guard let table = raw?.assumingMemoryBound(to: T.self) else { return nil }
    let size = UnsafeRawPointer(table).load(as: UInt32.self)
    if size < UInt32.size(of: type) {
      core.violate(.tableMalformed, "the table of \(id) has size \(size), not \(MemoryLayout<T>.size)")
    }
    return table
  }

  /// The first argument of every function of the plugin's tables.
  public var pluginSelf: UnsafeMutableRawPointer? { table.`self` }

  /// Submits one data call of any kind. `submit` builds the request in the arena (its memory lives until the plugin
  /// completes) and calls the plugin's function with the token; `read` takes what it needs out of the kind's result,
  /// during complete, on the plugin's thread. The answer of a passed deadline is a zeroed result with
  /// `BP_DEADLINE_EXCEEDED`; the plugin is told by cancel and its late completion is counted.
  ///
  /// `mode` is what the kind's table says of the function: a direct one runs here and must complete before it returns, a
  /// blocking one runs on a thread of its own.
  public func begin<Result: BitwiseCopyable, Answer: Sendable>(
    _ type: Result.Type, mode: CallMode = .async, deadline: Duration? = nil, generation: UInt64 = 1,
    submit: @escaping (RequestArena, UnsafePointer<bp_call>, bp_token) -> Void,
    read: @escaping @Sendable (Result) -> Answer
  ) throws -> TestCall<Answer> {
    let end = OneShot<Answer>()
    let token = try open(
      type, mode: mode, deadline: deadline, generation: generation, credits: 0, submit: submit,
      answer: { end.set(read($0)) }, chunk: nil)
    return TestCall(token: token, core: core, table: table, end: end)
  }

  /// `begin` and wait. Cancelling the task cancels the call.
  public func call<Result: BitwiseCopyable, Answer: Sendable>(
    _ type: Result.Type, mode: CallMode = .async, deadline: Duration? = nil, generation: UInt64 = 1,
    submit: @escaping (RequestArena, UnsafePointer<bp_call>, bp_token) -> Void,
    read: @escaping @Sendable (Result) -> Answer
  ) async throws -> Answer {
    let call = try begin(
      type, mode: mode, deadline: deadline, generation: generation, submit: submit, read: read)
    return await withTaskCancellationHandler {
      await call.value
    } onCancel: {
      call.cancel()
    }
  }

  func open<Result: BitwiseCopyable>(
    _ type: Result.Type, mode: CallMode, deadline: Duration?, generation: UInt64, credits: UInt32,
    takesInput: Bool = false, submit: @escaping (RequestArena, UnsafePointer<bp_call>, bp_token) -> Void,
    answer: @escaping @Sendable (Result) -> Void, chunk: (@Sendable (UnsafePointer<bp_chunk>) -> Void)?
  ) throws -> bp_token {
    guard core.life == .serving else {
      throw TestHostError(
        step: "submit", code: BP_FAILED_PRECONDITION,
        diagnostics: [
          Diagnostic(severity: .error, pointer: "", message: "the instance is \(core.life); call start first")
        ])
    }
    let arena = RequestArena()
    var header = bp_call()
    header.size = .size(of: bp_call.self)
    header.generation = generation
    if let deadline { header.deadline_ns = monotonicNow() + deadline.nanoseconds }
    let call = arena.make(header)
    let open = OpenCall(
      resultSize: MemoryLayout<Result>.size, resultName: "\(type)", arena: arena, credits: UInt64(credits),
      takesInput: takesInput, answer: { answer(UnsafeRawPointer($0).load(as: Result.self)) }, chunk: chunk)
    let token = core.open(open)
    if let deadline { watch(token, open, deadline) }
    run(mode, token, Submission { submit(arena, call, token) })
    return token
  }

  /// Made once, run once, on one thread.
  private struct Submission: @unchecked Sendable {
    // @unchecked: handed from the thread that made it to the one that runs it, and not kept.
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
  }

  private func run(_ mode: CallMode, _ token: bp_token, _ submission: Submission) {
    switch mode {
    case .async: submission.run()
    case .direct:
      submission.run()
      if core.isOpen(token) {
        core.violate(.directNotCompleted, "a direct function returned and token \(token) was not completed")
      }
    case .blocking: HostThread.detach { submission.run() }
    }
  }

  private func watch(_ token: bp_token, _ call: OpenCall, _ deadline: Duration) {
    let core = core
    let table = table
    let timer = Task {
      guard (try? await Task.sleep(for: deadline)) != nil else { return }
      core.giveUp(token, Failure(code: BP_DEADLINE_EXCEEDED, "the deadline of \(deadline) passed", isRetryable: true))
      if core.isOpen(token) { table.pointer.pointee.cancel?(table.`self`, token) }
    }
    core.state.withLock { _ in call.timer = timer }
  }
}
