/// A schema on the boundary itself: no Task and no copies.
public protocol DirectSchema: Plugin {
  static var judgeMode: CallMode { get }

  /// Whether deletes are judged too (`JudgeCall.message.verb`). Asked once, after `init`; false by default.
  var judgesDeletes: Bool { get }

  /// Asked once, after `init`.
  var programs: [Program] { get }

  /// Judges one message; complete the call exactly once (before returning when the mode is `.direct`).
  func judge(_ call: JudgeCall)

  /// Calls `write` with the canonical form of a URI whose program `isCanonical`, or does not when it is canonical. Pure.
  func canonical(_ uri: BorrowedBytes, _ write: (BorrowedBytes) -> Void)
}

extension DirectSchema {
  public var judgesDeletes: Bool { false }

  public func canonical(_ uri: BorrowedBytes, _ write: (BorrowedBytes) -> Void) {}
}

/// One message to judge; its views are valid until it is completed.
public struct JudgeCall: @unchecked Sendable {
  // @unchecked: the pointers inside are valid until the token is completed, on any thread (schema.h).
  public let host: HostHandle
  public let token: bp_token
  public let message: bp_message
  let executor: InstanceExecutor?

  /// The op that does what the message says, without a condition: the verdict of most schemas, and what the others
  /// begin with.
  @inlinable public var storing: bp_op {
    bp_op(
      size: .size(of: bp_op.self), verb: message.verb, condition: BP_IF_ANY, content: message.content, if_version: 0,
      flags: 0, reserved: 0, uri: message.uri, data: message.data, refusal: .empty)
  }

  /// Store the message as it is.
  @inlinable public func accept() { accept(storing) }

  /// Store this op alone.
  @inlinable public func accept(_ op: bp_op) {
    withUnsafePointer(to: op) { accept(UnsafeBufferPointer(start: $0, count: 1)) }
  }

  /// Store these ops, in order. They are copied, unless they point into the message.
  @inlinable public func accept(_ ops: UnsafeBufferPointer<bp_op>) {
    var verdict = bp_verdict(
      result: .ok(bp_verdict.self), ops: ops.baseAddress, ops_count: UInt32(ops.count), reserved: 0)
    host.complete(token, with: &verdict)
  }

  /// Goes on later: `body` runs on a thread of the instance's own (`Plugin.threads`), may read through the node, and
  /// completes this call. For a judgement that takes long or has to read; only where the mode is `.async`.
  public func later(_ body: @escaping @Sendable (JudgeReader) async -> Void) {
    guard let executor else { return fail(.unavailable("the schema is not started")) }
    let reader = JudgeReader(node: NodeAccess(host: host), token: token)
    executor.submit(token) { await body(reader) }
  }

  /// Refuse; the text goes to the client as it is.
  public func reject(_ text: String) { host.fail(token, Failure(code: BP_REJECTED, text), as: bp_verdict.self) }

  public func fail(_ failure: Failure) { host.fail(token, failure, as: bp_verdict.self) }
}
