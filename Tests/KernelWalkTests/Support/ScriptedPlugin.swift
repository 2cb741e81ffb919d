import BackplaneABI
import Synchronization

@testable import Kernel

/// A plugin whose C functions are written in the test: the kernel cannot tell it from one in a file.
class ScriptedPlugin: @unchecked Sendable {
  // @unchecked: `handle` is written before the instance is published; what subclasses change is under locks.
  fileprivate(set) var handle: bp_instance = 0
  let stopped = Promise<Bool>()
  let destroyed = Promise<Bool>()
  private(set) var table: UnsafePointer<bp_plugin>!

  init() {
    let table = UnsafeMutablePointer<bp_plugin>.allocate(capacity: 1)
    table.initialize(
      to: bp_plugin(
        size: UInt32(MemoryLayout<bp_plugin>.size), reserved: 0, self: Unmanaged.passRetained(self).toOpaque(),
        configure: { _, _, _ in BP_OK }, start: { _, _, _ in BP_OK }, quiesce: { _, _, _ in BP_OK },
        stop: { pointer, _, _ in
          let plugin = ScriptedPlugin.at(pointer)
          plugin.stop()
          plugin.stopped.set(true)
          return BP_OK
        },
        destroy: { pointer in
          Unmanaged<ScriptedPlugin>.fromOpaque(pointer!).takeRetainedValue().destroyed.set(true)
        },
        cancel: { pointer, token in ScriptedPlugin.at(pointer).cancel(token) }, grant: nil,
        extension: { pointer, id in ScriptedPlugin.at(pointer).kindTable(id) }))
    self.table = UnsafePointer(table)
  }

  static func at(_ pointer: UnsafeMutableRawPointer?) -> ScriptedPlugin {
    Unmanaged<ScriptedPlugin>.fromOpaque(pointer!).takeUnretainedValue()
  }

  func kindTable(_ id: bp_view) -> UnsafeRawPointer? { nil }
  func cancel(_ token: bp_token) {}
  func stop() {}

  fileprivate func bind(_ handle: bp_instance) { self.handle = handle }

  func complete(_ token: bp_token, _ result: UnsafePointer<bp_result>) {
    HostTable.pointer.pointee.complete(handle, token, result)
  }

  func complete<T>(_ token: bp_token, with result: inout T) {
    withUnsafePointer(to: &result) { complete(token, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self)) }
  }

  /// A table that is made once and never freed.
  static func constant<T>(_ value: T) -> UnsafeRawPointer {
    let pointer = UnsafeMutablePointer<T>.allocate(capacity: 1)
    pointer.initialize(to: value)
    return UnsafeRawPointer(pointer)
  }

  static func result<T>(_ code: bp_code, _ type: T.Type) -> bp_result {
    bp_result(
      size: UInt32(MemoryLayout<T>.size), code: code, flags: 0, retry_after_ms: 0, message: .empty, detail: .empty)
  }
}

extension Instance {
  /// A started instance around a scripted plugin.
  static func scripted(
    _ name: String, _ kind: SlotConfiguration.Kind, _ plugin: ScriptedPlugin, _ kernel: KernelContext
  ) -> Instance {
    let slot = SlotConfiguration(
      name: name, kind: kind, plugin: "org.example.\(name)", pluginPath: nil, scheme: nil, order: 0, json: "{}",
      redactedJSON: "{}", origins: [:])
    let manifest = Manifest(
      id: "org.example.\(name)", version: "1.0.0", kinds: [kind.rawValue], schemes: [],
      abi: Manifest.ABI(major: 0, minor: 1), stateVersion: nil, isVolatile: false, handover: .overlap, isolation: .any,
      runtime: "swift", configurationSchema: nil, secrets: [], listeners: [], metrics: [], licence: nil, source: nil,
      warnings: [])
    let verified = VerifiedPlugin(
      manifest: manifest, contentHash: "", stagedPath: "", sourcePath: "", neededLibraries: [], warnings: [])
    let entry = ScriptedPlugin.constant(bp_entry()).assumingMemoryBound(to: bp_entry.self)
    let instance = InstanceRegistry.shared.register {
      Instance(handle: $0, slot: slot, image: Image(verified, entry: entry), kernel: kernel, listeners: [:])
    }!
    plugin.bind(instance.handle)
    instance.adopt(plugin.table)
    let missing = instance.bindKinds()
    precondition(missing == nil, "the scripted plugin has no \(missing!)")
    instance.state = .serving
    return instance
  }
}
