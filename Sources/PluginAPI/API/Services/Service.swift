/// A service: works on its own account. It uses the node as a client would (`context.node`, `context.subscribe`), is woken
/// by `context.timer`, knows of the node by `context.observe`, and says how it is by `context.health`.
///
/// Life: `start` acquires what it needs and may fail the reload; `nodeReady` says that the node serves; `run` is its work;
/// `quiesce` and `stop` end it. All of them run on the instance's own executor.
public protocol Service: Plugin {
  /// The node serves: the generation that this instance came with has been published. Called once, after `start`, also in
  /// a process that took the node over. What is thrown makes the slot unhealthy with its message, and `run` is not begun; a
  /// method that is not back by `deadline` is cancelled.
  func nodeReady(_ deadline: Deadline) async throws

  /// The service's work, from when `nodeReady` has returned; it may go on as long as the instance lives. Its task is
  /// cancelled when the instance is quiesced, and awaited: waiting for the node, for a timer or for the feed ends then by
  /// itself. What it throws, but for the cancellation, makes the slot unhealthy with its message.
  func run() async throws

  /// The node is about to end and still serves: the last moment to use it. Not called when only this instance is replaced,
  /// nor when another process takes the node over. `run` still goes on. The end comes at `deadline` whatever this does;
  /// `quiesce` follows.
  func nodeEnding(_ deadline: Deadline) async
}

extension Service {
  public func nodeReady(_ deadline: Deadline) async throws {}
  public func run() async throws {}
  public func nodeEnding(_ deadline: Deadline) async {}
}
