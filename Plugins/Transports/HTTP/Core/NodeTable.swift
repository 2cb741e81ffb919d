import PluginAPI

/// The host's tables that this transport calls, looked up once.
struct NodeTable: @unchecked Sendable {
  // @unchecked: both tables are static for the life of the process (core.h) and every function in them is [any-thread].
  let host: HostHandle
  let node: UnsafePointer<bp_node>
  let observe: UnsafePointer<bp_observe>?

  /// - Throws: `Failure` when the host has no node.
  init(_ host: HostHandle) throws {
    guard let node = host.extensionTable("backplane.node/1", as: bp_node.self) else {
      throw Failure.unavailable("this host has no node for the HTTP transport to serve (backplane.node/1)")
    }
    self.host = host
    self.node = node
    observe = host.extensionTable("backplane.observe/1", as: bp_observe.self)
  }
}
