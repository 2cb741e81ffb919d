import PluginAPI

/// The host's tables that this transport calls, looked up once.
struct NodeTable: @unchecked Sendable {
  // @unchecked: both tables are static for the life of the process (core.h) and every function in them is [any-thread].
  let host: HostHandle
  let log: Log
  let node: UnsafePointer<bp_node>
  let observe: UnsafePointer<bp_observe>?

  /// - Throws: `Failure` when the host has no node.
  init(_ context: Context) throws {
    let host = context.host
    guard let node = host.extensionTable("backplane.node/1", as: bp_node.self) else {
      throw Failure.unavailable("this host has no node for the HTTP transport to serve (backplane.node/1)")
    }
    self.host = host
    log = context.log
    self.node = node
    observe = host.extensionTable("backplane.observe/1", as: bp_observe.self)
  }
}
