/// A proxy between a client under test and a server, which does what networks and dying servers do to connections.
///
/// ```swift
/// let proxy = try FaultProxy(to: .tcp(port: server.port))
/// // ... the client connects to proxy.port ...
/// proxy.set(.refuses)   // in effect when it returns
/// proxy.set(.passes)
/// ```
///
/// One thread moves the bytes of all connections; every function may be called from any thread. Bytes are never changed
/// nor put into another order. Stops with the value at the latest.
public final class FaultProxy: Sendable {
  public enum Fault: Sendable, Equatable {
    /// Bytes go through as they come.
    case passes
    /// Nobody listens: connecting is refused. Open connections are reset. What a stopped server looks like.
    case refuses
    /// Connections are accepted and nothing moves on them, nor on open ones. What is held goes on when the fault ends,
    /// as after a partition of the network.
    case blackHoles
    /// Every piece arrives so much later, in both directions.
    case delays(milliseconds: Int)
    /// Each connection, open ones too, passes so many more bytes in the direction and is then closed on both sides: in
    /// the middle of a statement, or of an answer.
    case cutsAfter(bytes: Int, Direction)
    /// Open connections are reset, new ones as soon as they were accepted.
    case resets
  }

  public enum Direction: Sendable, Equatable {
    case toServer
    case toClient
  }

  /// What has come through so far.
  public struct Counts: Sendable, Equatable {
    public var accepted = 0
    public var open = 0
    public var bytesToServer = 0
    public var bytesToClient = 0

    public init() {}
  }

  /// Where clients connect.
  public let address: SocketAddress
  /// The TCP port where clients connect; 0 for a Unix socket.
  public var port: UInt16 { address.port }

  private let requests: ProxyRequests
  private let thread: ProxyThread

  /// - `server`: where the bytes go; nobody has to be there yet.
  /// - `address`: where to listen; a free port of the loopback interface unless told.
  public init(to server: SocketAddress, listeningOn address: SocketAddress = .tcp(port: 0)) throws {
    let listener = try ProxyListener(address)
    let requests = ProxyRequests()
    self.address = listener.address
    self.requests = requests
    thread = ProxyThread {
      var loop = ProxyLoop(listener, to: server)
      loop.run(requests)
    }
  }

  deinit { stop() }

  /// Returns when the fault is in effect.
  public func set(_ fault: Fault) { requests.ask { $0.fault = fault } }

  /// Resets every open connection once; what holds for new ones stays.
  public func resetConnections() { requests.ask { $0.resetsOnce = true } }

  public var fault: Fault { requests.wanted.fault }

  /// As of when the proxy last had something to do.
  public var counts: Counts { requests.counts }

  /// Closes everything; idempotent. No thread and no descriptor is left when it returns.
  public func stop() {
    requests.ask { $0.isStopping = true }
    thread.join()
  }
}
