import PluginAPI
import PluginTestHost
import Synchronization

/// One generation: what a request holds from its beginning to its end.
final class Generation: Sendable {
  let number: UInt64
  let schema: TestHost
  /// In order; the first decides the preconditions.
  let backends: [TestHost]

  init(_ number: UInt64, schema: TestHost, backends: [TestHost]) {
    self.number = number
    self.schema = schema
    self.backends = backends
  }
}

/// The node's work in as few lines as it takes, over the boundary alone: judge (outputs by their own program's schema,
/// reads see earlier ops of the message), then one unit to every backend. All backends must take it.
final class MiniNode: TestNode {
  /// What a message has been judged to write so far.
  private final class Message: Sendable {
    let generation: Generation
    let ops = Mutex<[Op]>([])
    init(_ generation: Generation) { self.generation = generation }
  }

  private struct State {
    var current: Generation?
    var messages: [bp_token: Message] = [:]
    var version: UInt64 = 0
  }

  private let state = Mutex(State())
  /// Awaited between judging and writing.
  private let beforeApply = Mutex<(@Sendable () async -> Void)?>(nil)
  /// One value for each message whose unit has been submitted to every backend.
  let submitted: AsyncStream<Void>
  private let noteSubmitted: AsyncStream<Void>.Continuation

  init() { (submitted, noteSubmitted) = AsyncStream.makeStream() }

  func publish(_ generation: Generation?) { state.withLock { $0.current = generation } }

  func before(apply body: (@Sendable () async -> Void)?) { beforeApply.withLock { $0 = body } }

  func receive(_ uri: String, _ data: [UInt8], deadline: Duration? = nil) async throws -> WriteOutcome {
    guard let generation = state.withLock({ $0.current }) else { throw Failure.unavailable("nothing is published") }
    let message = Message(generation)
    try await judge(Op(.put(data: data, content: .bytes), uri: uri), in: message, depth: 0)
    if let body = beforeApply.withLock({ $0 }) { await body() }
    let version = state.withLock { state in
      state.version += 1
      return state.version
    }
    let ops = message.ops.withLock { $0 }
    let calls = try generation.backends.map {
      try $0.beginApply(
        ops, timestampMs: 1000 + version, version: version, deadline: deadline, generation: generation.number)
    }
    noteSubmitted.yield()
    return try await withTaskCancellationHandler {
      // Every backend has answered, or its deadline has, before the client hears: they do not pass at the same instant.
      var answers: [Result<WriteOutcome, any Error>] = []
      for call in calls { answers.append(await call.value) }
      let outcomes = try answers.map { try $0.get() }
      // The acknowledgement is as durable as the least of those that count.
      return outcomes.min { $0.durability < $1.durability }!
    } onCancel: {
      for call in calls { call.cancel() }
    }
  }

  private func judge(_ op: Op, in message: Message, depth: UInt32) async throws {
    guard depth < 16 else { throw Failure(code: BP_REJECTED, "verdicts are nested deeper than 16") }
    guard case .put(let data, let content) = op.verb else { throw Failure.unimplemented("deletes are not walked") }
    let call = try message.generation.schema.beginJudge(
      op.uri, data, content, depth: depth, generation: message.generation.number,
      onToken: { token in self.state.withLock { $0.messages[token] = message } })
    let verdict = try await call.value.get()
    state.withLock { _ = $0.messages.removeValue(forKey: call.token) }
    switch verdict {
    case .rejected(let text): throw Failure(code: BP_REJECTED, text)
    case .accepted(let ops):
      for next in ops {
        if next.isToJudge {
          try await judge(next, in: message, depth: depth + 1)
        } else {
          message.ops.withLock { $0.append(next) }
        }
      }
    }
  }

  // MARK: backplane.node/1, for the validator

  func read(_ uri: String, _ call: NodeCall) async throws -> Record? {
    let (message, current) = state.withLock { ($0.messages[call.parent], $0.current) }
    if let message, let op = message.ops.withLock({ $0.last { $0.uri == uri } }) {
      guard case .put(let data, let content) = op.verb else { return nil }
      return Record(data: data, content: content, timestampMs: 0, version: 0)
    }
    // A nested call stays on its parent's generation.
    for backend in (message?.generation ?? current)?.backends ?? [] {
      if let record = try await backend.read(uri) { return record }
    }
    return nil
  }

  func receive(_ uri: String, _ data: [UInt8], _ content: Content, _ call: NodeCall) async throws -> WriteOutcome {
    try await receive(uri, data)
  }

  func list(_ request: ListRequest, _ call: NodeCall) async throws -> ListPage { ListPage(uris: [], total: 0) }
  func remove(_ uri: String, _ call: NodeCall) async throws -> WriteOutcome? { nil }
  func programs() -> [String] { [] }
  func normalise(_ uri: String) -> String? { uri }
}
