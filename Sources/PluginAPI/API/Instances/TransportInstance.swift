final class TransportInstance<P: Transport>: Instance<P> {
  private let transport: UnsafeMutablePointer<bp_transport> = {
    let table = UnsafeMutablePointer<bp_transport>.allocate(capacity: 1)
    table.initialize(
      to: bp_transport(
        size: .size(of: bp_transport.self), flags: 0,
        connections: { pointer in InstanceBox.with(pointer) { UInt64($0.connections()) } }))
    return table
  }()

  deinit { transport.deallocate() }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? {
    id.equals("backplane.transport/1") ? UnsafeRawPointer(transport) : nil
  }

  override func connections() -> Int { plugin.connections() }
}
