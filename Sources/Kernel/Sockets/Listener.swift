import Foundation
import Synchronization

/// A listening socket of the kernel's. It outlives the transports that borrow it; it is closed when the last instance
/// that was lent it is gone.
final class Listener: Sendable {
  /// As configured: `9942`, `127.0.0.1:9942`, `[::1]:9942`, `unix:/run/x.sock`.
  let address: String
  var descriptor: Int32 { number.load(ordering: .acquiring) }
  private let number: Atomic<Int32>
  /// The bound port, also when 0 was configured; 0 for a Unix socket.
  let port: Int
  private let unixPath: String?
  /// Another process has it too and goes on with it: its path stays.
  private let isShared = Atomic<Bool>(false)

  static let backlog: Int32 = 4096

  /// Binds and listens. Throws one sentence: the address, the reason, the remedy.
  init(address: String) throws(ListenerError) {
    self.address = address
    if address.hasPrefix("unix:") {
      let path = String(address.dropFirst(5))
      number = Atomic(try Listener.bindUnix(path))
      port = 0
      unixPath = path
      keep()
      return
    }
    let (host, portText) = Listener.split(address)
    guard let wanted = Int(portText), (0...65_535).contains(wanted) else {
      throw ListenerError("cannot listen on '\(address)': the port must be a whole number from 0 to 65535")
    }
    let bound = try Listener.bindTCP(host, wanted, address)
    number = Atomic(bound)
    port = Listener.boundPort(bound)
    unixPath = nil
    keep()
  }

  /// A plugin in this process may close it: then it is put back.
  private func keep() {
    OwnDescriptors.shared.add(descriptor, "the listening socket \(address)") { [weak self] in
      self?.number.store($0, ordering: .releasing)
    }
  }

  /// A socket that the kernel before this one listens on.
  init(adopting descriptor: Int32, address: String) {
    self.address = address
    number = Atomic(descriptor)
    if address.hasPrefix("unix:") {
      port = 0
      unixPath = String(address.dropFirst(5))
    } else {
      port = Listener.boundPort(descriptor)
      unixPath = nil
    }
    // Until this process is the one that goes on.
    isShared.store(true, ordering: .relaxed)
    keep()
  }

  /// The process that takes this one's place goes on with it.
  func wasHandedOver() { isShared.store(true, ordering: .relaxed) }

  /// This process goes on with it.
  func wasTakenOver() { isShared.store(false, ordering: .relaxed) }

  deinit {
    OwnDescriptors.shared.remove(descriptor)
    close(descriptor)
    if let unixPath, !isShared.load(ordering: .relaxed) { unlink(unixPath) }
  }

  private static func split(_ address: String) -> (host: String?, port: String) {
    guard let colon = address.lastIndex(of: ":") else { return (nil, address) }
    var host = String(address[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    return (host.isEmpty ? nil : host, String(address[address.index(after: colon)...]))
  }

  private static func bindTCP(_ host: String?, _ port: Int, _ address: String) throws(ListenerError) -> Int32 {
    var hints = addrinfo()
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    // Without a host: every interface, IPv6 and IPv4 on one socket where the system has IPv6.
    var found: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host ?? "::", String(port), &hints, &found)
    defer { if let found { freeaddrinfo(found) } }
    var reason = status == 0 ? "no address" : String(cString: gai_strerror(status))
    var next = found
    while let info = next {
      switch attempt(info.pointee.ai_family, info.pointee.ai_addr, info.pointee.ai_addrlen, dual: host == nil) {
      case .success(let descriptor): return descriptor
      case .failure(let error): reason = error.sentence
      }
      next = info.pointee.ai_next
    }
    if host == nil {
      var any = sockaddr_in()
      any.sin_family = sa_family_t(AF_INET)
      any.sin_port = in_port_t(port).bigEndian
      let attempt = withUnsafePointer(to: &any) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          self.attempt(AF_INET, $0, socklen_t(MemoryLayout<sockaddr_in>.size), dual: false)
        }
      }
      switch attempt {
      case .success(let descriptor): return descriptor
      case .failure(let error): reason = error.sentence
      }
    }
    throw ListenerError(
      "cannot listen on '\(address)': \(reason); free it or configure another port")
  }

  private static func attempt(
    _ family: Int32, _ address: UnsafePointer<sockaddr>?, _ length: socklen_t, dual: Bool
  ) -> Result<Int32, ListenerError> {
    let flags = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
    let descriptor = socket(family, flags, 0)
    guard descriptor >= 0 else { return .failure(ListenerError(String(cString: strerror(errno)))) }
    var on: Int32 = 1
    let size = socklen_t(MemoryLayout<Int32>.size)
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, size)
    if family == AF_INET6 {
      var only: Int32 = dual ? 0 : 1
      setsockopt(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &only, size)
    }
    guard bind(descriptor, address, length) == 0, listen(descriptor, backlog) == 0 else {
      let reason = String(cString: strerror(errno))
      close(descriptor)
      return .failure(ListenerError(reason))
    }
    return .success(descriptor)
  }

  private static func boundPort(_ descriptor: Int32) -> Int {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutablePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        guard getsockname(descriptor, address, &length) == 0 else { return 0 }
        // The port lies at the same place in sockaddr_in and sockaddr_in6.
        return pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
          Int(UInt16(bigEndian: $0.pointee.sin_port))
        }
      }
    }
  }

  private static func bindUnix(_ path: String) throws(ListenerError) -> Int32 {
    guard let descriptor = UnixSocket.listen(path: path, mode: 0o660) else {
      throw ListenerError(
        "cannot listen on 'unix:\(path)': \(String(cString: strerror(errno))); the folder must exist and be writable")
    }
    return descriptor
  }
}

/// Why a socket could not be bound: one sentence.
struct ListenerError: Error {
  let sentence: String
  init(_ sentence: String) { self.sentence = sentence }
}

/// Unix stream sockets at a path.
enum UnixSocket {
  /// A listening socket of `mode`; what lay at `path` is replaced. Nil with errno set.
  static func listen(path: String, mode: mode_t) -> Int32? {
    guard let (address, length) = self.address(path) else {
      errno = ENAMETOOLONG
      return nil
    }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    unlink(path)
    // Bound under a tight mask, so that there is no moment in which others could connect.
    var storage = address
    let previous = umask(0o777 & ~mode)
    let bound = withUnsafePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
    }
    umask(previous)
    guard bound == 0, chmod(path, mode) == 0, Glibc.listen(descriptor, 64) == 0 else {
      let error = errno
      close(descriptor)
      errno = error
      return nil
    }
    return descriptor
  }

  static func address(_ path: String) -> (sockaddr_un, socklen_t)? {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    return (address, socklen_t(MemoryLayout<sockaddr_un>.size))
  }
}
