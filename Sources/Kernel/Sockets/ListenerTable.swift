import BackplaneABI
import Foundation

/// backplane.listener/1: lends the kernel's listening sockets.
enum ListenerTable {
  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_listener> = {
    let table = UnsafeMutablePointer<bp_listener>.allocate(capacity: 1)
    table.initialize(
      to: bp_listener(
        size: UInt32(MemoryLayout<bp_listener>.size), reserved: 0,
        borrow: { handle, name, socket in
          guard let instance = InstanceRegistry.shared.find(handle) else { return BP_CLOSED }
          guard let listener = instance.listeners[name.text] else { return BP_NOT_FOUND }
          guard socket!.pointee.size >= UInt32(MemoryLayout<bp_listener_socket>.size) else {
            return BP_INVALID_ARGUMENT
          }
          let descriptor = fcntl(listener.descriptor, F_DUPFD_CLOEXEC, 3)
          guard descriptor >= 0 else { return BP_RESOURCE_EXHAUSTED }
          socket!.pointee.descriptor = descriptor
          socket!.pointee.port = UInt32(listener.port)
          return BP_OK
        }))
    return UnsafePointer(table)
  }()
}
