import PluginAPI

@testable import boundary_trial_child

/// The tables that a proxy offers: those that its child has.
final class ProxyTables: @unchecked Sendable {
  // @unchecked: filled before the proxy is handed out, constant afterwards.
  let plugin = UnsafeMutablePointer<bp_plugin>.allocate(capacity: 1)
  private let backend = UnsafeMutablePointer<bp_backend>.allocate(capacity: 1)
  private let hasBackend: Bool
  private let hasLanguageModel: Bool
  private let hasTransport: Bool

  init(from hello: inout Frame) throws {
    hasBackend = try hello.small() != 0
    let flags = try hello.small()
    let durability = try hello.small()
    hasLanguageModel = try hello.small() != 0
    hasTransport = try hello.small() != 0
    // Whatever the plugin's modes are: behind a socket everything is asynchronous.
    backend.initialize(
      to: bp_backend(
        size: .size(of: bp_backend.self), flags: flags, apply_mode: BP_MODE_ASYNC, read_mode: BP_MODE_ASYNC,
        scan_mode: BP_MODE_ASYNC, durability_max: durability,
        apply: { pointer, units, count in
          ChildProxy.with(pointer) { proxy in
            for index in 0..<Int(count) { proxy.apply(element(units!, index, units!.pointee.size)) }
          }
        },
        read: { pointer, reads, count in
          ChildProxy.with(pointer) { proxy in
            for index in 0..<Int(count) { proxy.read(element(reads!, index, reads!.pointee.size)) }
          }
        },
        scan: { pointer, scan in ChildProxy.with(pointer) { $0.scan(scan!.pointee) } }))
    plugin.initialize(
      to: bp_plugin(
        size: .size(of: bp_plugin.self), reserved: 0, self: nil,
        configure: { pointer, configuration, report in
          var frame = Frame(.configure)
          frame.put(configuration!.pointee.json.array)
          frame.put(configuration!.pointee.state_directory.array)
          return ChildProxy.with(pointer) { $0.step(frame, report) }
        },
        start: { pointer, _, report in ChildProxy.with(pointer) { $0.start(report) } },
        quiesce: { pointer, _, report in ChildProxy.with(pointer) { $0.step(Frame(.quiesce), report) } },
        stop: { pointer, _, report in ChildProxy.with(pointer) { $0.stop(report) } },
        destroy: { pointer in
          let proxy = Unmanaged<ChildProxy>.fromOpaque(pointer!).takeRetainedValue()
          proxy.destroy()
        },
        cancel: { pointer, token in
          var frame = Frame(.cancel)
          frame.put(token)
          ChildProxy.with(pointer) { _ = $0.child.wire.send(frame) }
        },
        grant: { pointer, token, credits in
          var frame = Frame(.grant)
          frame.put(token)
          frame.put(credits)
          ChildProxy.with(pointer) { _ = $0.child.wire.send(frame) }
        },
        extension: { pointer, id in ChildProxy.with(pointer) { $0.extensionTable(id) } }))
  }

  deinit {
    backend.deallocate()
    plugin.deallocate()
  }

  func find(_ id: bp_view) -> UnsafeRawPointer? {
    if hasBackend && id.equals("backplane.backend/1") { return UnsafeRawPointer(backend) }
    if hasLanguageModel && id.equals("backplane.llm/1") { return ProxyTables.languageModel.raw }
    return hasTransport && id.equals("backplane.transport/1") ? ProxyTables.transport.raw : nil
  }

  private static let languageModel = ConstantTable(
    bp_llm(
      size: .size(of: bp_llm.self), flags: 0,
      generate: { pointer, _, request, token in
        let raw = request!.pointee
        var frame = Frame(.generate)
        frame.put(token)
        frame.put(raw.credits)
        frame.put(raw.model.bytes)
        frame.put(raw.json.bytes)
        ChildProxy.with(pointer) { $0.submit(.generate, token, frame) }
      }))

  private static let transport = ConstantTable(
    bp_transport(size: .size(of: bp_transport.self), flags: 0, connections: { _ in 0 }))
}

/// The n-th element of an array of sized structs.
private func element<T>(_ first: UnsafePointer<T>, _ index: Int, _ size: UInt32) -> T {
  UnsafeRawPointer(first).load(fromByteOffset: index * Int(size), as: T.self)
}

extension ChildProxy {
  fileprivate func apply(_ unit: bp_unit) {
    var frame = Frame(.apply)
    frame.put(unit.token)
    frame.put(unit.call?.pointee.generation ?? 0)
    frame.put(unit.ts_ms)
    frame.put(unit.version)
    frame.put(unit.ops_count)
    for index in 0..<Int(unit.ops_count) {
      let op = element(unit.ops, index, unit.ops.pointee.size)
      frame.put(op.verb)
      frame.put(op.condition)
      frame.put(op.if_version)
      frame.put(op.content)
      frame.put(op.uri.bytes)
      frame.put(op.data.bytes)
    }
    submit(.apply, unit.token, frame)
  }

  fileprivate func read(_ read: bp_read) {
    var frame = Frame(.read)
    frame.put(read.token)
    frame.put(read.uri.bytes)
    submit(.read, read.token, frame)
  }

  fileprivate func scan(_ scan: bp_scan) {
    var frame = Frame(.scan)
    frame.put(scan.token)
    frame.put(scan.prefix.bytes)
    frame.put(scan.cursor.bytes)
    frame.put(scan.credits)
    submit(.scan, scan.token, frame)
  }
}
