import PluginAPI

/// The host's tables that a transport calls, looked up once.
public struct NodeTable: @unchecked Sendable {
  // @unchecked: the tables are static for the life of the process (core.h) and every function in them is [any-thread].
  public let host: HostHandle
  public let log: Log
  public let node: UnsafePointer<bp_node>
  public let observe: UnsafePointer<bp_observe>?
  /// Nil: this host tells nobody of what it accepts.
  public let feed: UnsafePointer<bp_feed>?

  /// - Throws: `Failure` when the host has no node.
  public init(_ context: Context) throws {
    let host = context.host
    guard let node = host.extensionTable("backplane.node/1", as: bp_node.self) else {
      throw Failure.unavailable("this host has no node for a transport to serve (backplane.node/1)")
    }
    self.host = host
    log = context.log
    self.node = node
    feed = host.extensionTable("backplane.feed/1", as: bp_feed.self)
    observe = host.extensionTable("backplane.observe/1", as: bp_observe.self)
  }
}
