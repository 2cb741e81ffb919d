import Glibc

/// Where a server listens, on this machine.
public enum SocketAddress: Sendable, Equatable, CustomStringConvertible {
  /// On 127.0.0.1; 0: any free port.
  case tcp(port: UInt16)
  /// A Unix socket; the path has at most 107 bytes.
  case unix(path: String)

  public var port: UInt16 { if case .tcp(let port) = self { port } else { 0 } }

  public var description: String {
    switch self {
    case .tcp(let port): "127.0.0.1:\(port)"
    case .unix(let path): path
    }
  }

  /// A listening socket that blocks, and where it is. The caller closes it.
  public func listening() throws(SocketFailure) -> (descriptor: Int32, address: SocketAddress) {
    let descriptor = try makeSocket(blocks: true)
    guard withRaw({ Glibc.bind(descriptor, $0, $1) }) == 0, listen(descriptor, 512) == 0 else {
      let code = errno
      close(descriptor)
      throw SocketFailure("bind and listen", code, self)
    }
    return (descriptor, bound(descriptor))
  }

  /// A connected socket that blocks, on sending and receiving for so long at most. The caller closes it.
  public func connected(timeoutSeconds: Int) throws(SocketFailure) -> Int32 {
    let descriptor = try makeSocket(blocks: true)
    var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
    guard withRaw({ connect(descriptor, $0, $1) }) == 0 else {
      let code = errno
      close(descriptor)
      throw SocketFailure("connect", code, self)
    }
    return descriptor
  }

  /// Where a bound socket of this address is: with the port that was free.
  func bound(_ descriptor: Int32) -> SocketAddress {
    guard case .tcp = self else { return self }
    var raw = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutablePointer(to: &raw) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    return .tcp(port: UInt16(bigEndian: raw.sin_port))
  }

  /// A socket of the address's family.
  func makeSocket(blocks: Bool = false) throws(SocketFailure) -> Int32 {
    let family = if case .tcp = self { AF_INET } else { AF_UNIX }
    let waiting = blocks ? 0 : Int32(SOCK_NONBLOCK.rawValue)
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | waiting
    let descriptor = socket(family, type, 0)
    guard descriptor >= 0 else { throw SocketFailure("socket", errno, self) }
    var one: Int32 = 1
    if case .tcp = self {
      setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
      setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
    }
    return descriptor
  }

  func withRaw<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
    switch self {
    case .tcp(let port):
      var raw = sockaddr_in()
      raw.sin_family = sa_family_t(AF_INET)
      raw.sin_port = port.bigEndian
      raw.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
      return withUnsafePointer(to: &raw) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
      }
    case .unix(let path):
      var raw = sockaddr_un()
      raw.sun_family = sa_family_t(AF_UNIX)
      precondition(path.utf8.count < MemoryLayout.size(ofValue: raw.sun_path), "too long for a socket: \(path)")
      withUnsafeMutableBytes(of: &raw.sun_path) { $0.copyBytes(from: path.utf8) }
      return withUnsafePointer(to: &raw) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
      }
    }
  }
}

/// A call to the system that failed where a test cannot go on without it.
public struct SocketFailure: Error, CustomStringConvertible {
  public var description: String

  init(_ call: String, _ code: Int32, _ address: SocketAddress) {
    description = "\(call) of \(address) failed: \(String(cString: strerror(code)))"
  }
}
