/// A transport: carries a protocol between clients and the node, on threads of its own.
///
/// `quiesce` stops accepting at once, lets each connection's next answer say goodbye, and closes idle connections only
/// at the deadline. `stop` closes what is left and joins the threads.
public protocol Transport: Plugin {
  /// Open connections now. Any thread; never blocks.
  func connections() -> Int
}

/// A borrowed listening socket.
public struct ListenerSocket: Sendable {
  /// Non-blocking, close-on-exec; already listening. The borrower closes it and does nothing else to it.
  public var descriptor: Int32
  /// 0 for a Unix socket.
  public var port: Int
}

extension Context {
  /// Borrows the listening socket that the manifest declares under `name`. From `start` on.
  public func borrowListener(_ name: String) throws -> ListenerSocket {
    guard let table = host.extensionTable("backplane.listener/1", as: bp_listener.self) else {
      throw Failure.unavailable("this host lends no listening sockets")
    }
    var socket = bp_listener_socket()
    socket.size = .size(of: bp_listener_socket.self)
    let code = name.withView { table.pointee.borrow(host.instance, $0, &socket) }
    guard code == BP_OK else {
      throw Failure(
        code: code, "the host lends no listener named '\(name)'; declare it under \"listeners\" in manifest.json")
    }
    return ListenerSocket(descriptor: socket.descriptor, port: Int(socket.port))
  }
}
