import PluginAPI

/// A call that answers in chunks.
public final class TestStream<Chunk: Sendable, Answer: Sendable>: Sendable {
  /// The chunks, in the order they were emitted; ends when the call does.
  public let chunks: AsyncStream<Chunk>
  let call: TestCall<Answer>

  init(chunks: AsyncStream<Chunk>, call: TestCall<Answer>) {
    self.chunks = chunks
    self.call = call
  }

  public var token: bp_token { call.token }
  /// How the stream ended.
  public var value: Answer { get async { await call.value } }
  public var isCompleted: Bool { call.isCompleted }
  /// Gives the stream up: emit answers `BP_CANCELLED` from now on.
  public func cancel() { call.cancel() }

  /// Allows the plugin `credits` more units; nothing happens when the stream has ended.
  public func grant(_ credits: UInt32) {
    guard call.core.addCredits(token, credits) else { return }
    guard let grant = call.table.pointer.pointee.grant else {
      return call.core.violate(.tableMalformed, "the plugin streams but bp_plugin.grant is NULL")
    }
    grant(call.table.`self`, token, credits)
  }
}

extension TestHost {
  /// Submits a call that streams. `credits` must be what the request in `submit` says; `chunk` copies what is needed
  /// from each chunk during emit, on the plugin's thread. With `takesInput` the plugin may allow input for the call
  /// (`TestStream.send`). Otherwise as `begin`.
  public func stream<Result: BitwiseCopyable, Chunk: Sendable, Answer: Sendable>(
    _ type: Result.Type, credits: UInt32, takesInput: Bool = false, mode: CallMode = .async, deadline: Duration? = nil,
    generation: UInt64 = 1,
    submit: @escaping (RequestArena, UnsafePointer<bp_call>, bp_token) -> Void,
    chunk: @escaping @Sendable (UnsafePointer<bp_chunk>) -> Chunk, read: @escaping @Sendable (Result) -> Answer
  ) throws -> TestStream<Chunk, Answer> {
    // Unbounded, but credits bound what can be in it.
    let (chunks, feed) = AsyncStream.makeStream(of: Chunk.self)
    let end = OneShot<Answer>()
    let token = try open(
      type, mode: mode, deadline: deadline, generation: generation, credits: credits,
      takesInput: takesInput, submit: submit,
      answer: {
        end.set(read($0))
        feed.finish()
      }, chunk: { feed.yield(chunk($0)) })
    return TestStream(
      chunks: chunks, call: TestCall(token: token, core: core, table: table, end: end))
  }
}
