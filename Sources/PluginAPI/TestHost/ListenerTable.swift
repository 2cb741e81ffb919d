import Glibc
import PluginAPI

/// A listening socket on a free loopback port, bound when a plugin first asks for its name.
struct LoopbackListener {
  let descriptor: Int32
  let port: UInt16

  /// Takes over a listening descriptor.
  init?(adopting descriptor: Int32) {
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) == 0 }
    }
    guard isBound else { return nil }
    self.descriptor = descriptor
    port = address.sin_family == sa_family_t(AF_INET) ? UInt16(bigEndian: address.sin_port) : 0
  }

  init?() {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 128) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    guard isBound else {
      close(descriptor)
      return nil
    }
    self.descriptor = descriptor
    port = UInt16(bigEndian: address.sin_port)
  }
}

enum ListenerTable {
  // nonisolated(unsafe): written once by its initialiser, read only, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_listener> = {
    let table = UnsafeMutablePointer<bp_listener>.allocate(capacity: 1)
    table.initialize(
      to: bp_listener(
        size: .size(of: bp_listener.self), reserved: 0,
        borrow: { instance, name, socket in
          guard let core = HostRegistry.find(instance, "listener.borrow") else { return BP_CLOSED }
          guard !core.isProbe, let socket else { return BP_UNAVAILABLE }
          return core.borrow(name, socket)
        }))
    return UnsafePointer(table)
  }()
}

extension TestHost {
  /// Lends this listening descriptor under `name` instead of a loopback port of the host's own. Ownership passes to the
  /// host, which closes it at destroy.
  public func lend(_ name: String, descriptor: Int32) {
    guard let listener = LoopbackListener(adopting: descriptor) else { return }
    core.state.withLock { $0.listeners[name] = listener }
  }
}

extension HostCore {
  /// The listener of that name, bound now when nobody has asked for it before.
  func listener(_ name: String) -> LoopbackListener? {
    state.withLock { state in
      if let listener = state.listeners[name] { return listener }
      guard state.life < .stopped, let listener = LoopbackListener() else { return nil }
      state.listeners[name] = listener
      return listener
    }
  }

  func borrow(_ name: bp_view, _ socket: UnsafeMutablePointer<bp_listener_socket>) -> bp_code {
    guard let listener = listener(text(name, "a listener's name")) else { return BP_UNAVAILABLE }
    let copy = fcntl(listener.descriptor, F_DUPFD_CLOEXEC, 0)
    guard copy >= 0 else { return BP_RESOURCE_EXHAUSTED }
    let size = socket.pointee.size
    guard size >= UInt32.size(of: bp_listener_socket.self) else {
      close(copy)
      return BP_INVALID_ARGUMENT
    }
    socket.pointee = bp_listener_socket(size: size, descriptor: copy, port: UInt32(listener.port), reserved: 0)
    return BP_OK
  }

  func closeListeners() {
    let listeners = state.withLock { state in
      defer { state.listeners = [:] }
      return Array(state.listeners.values)
    }
    for listener in listeners { close(listener.descriptor) }
  }
}
