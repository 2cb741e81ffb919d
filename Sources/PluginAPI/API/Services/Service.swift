/// A service: works on its own account. It uses the node as a client would (`context.node`, `context.feed`), is woken by
/// `context.timer`, and says how it is by `context.health`.
///
/// Life: `start` acquires what it needs and may fail the reload; `nodeReady` begins the work; `quiesce` ends it. Work
/// that goes on runs in a task of its own that `quiesce` or `stop` cancels and awaits.
public protocol Service: Plugin {
  /// The node serves: the generation that this instance came with has been published. Called once, after `start`, also in
  /// a process that took the node over. Begin work that goes on and return; what is thrown makes the slot unhealthy with
  /// its message, and a method that is not back by `deadline` is cancelled. Runs on the instance's own executor.
  func nodeReady(_ deadline: Deadline) async throws

  /// The node is about to end and still serves: the last moment to use it. Not called when only this instance is replaced,
  /// nor when another process takes the node over. The end goes on at `deadline` whatever this does; `quiesce` follows.
  func nodeEnding(_ deadline: Deadline) async
}

extension Service {
  public func nodeReady(_ deadline: Deadline) async throws {}
  public func nodeEnding(_ deadline: Deadline) async {}
}
