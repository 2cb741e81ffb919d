import BackplaneABI
import Glibc
import IsolationWire

/// An instance that lives in another kernel process, behind a connected stream socket that an `InstanceServer` there
/// answers: a backend or a schema, started already. Nobody restarts it, and its life is not ours: quiesce, stop and
/// destroy end the connection and nothing else.
enum RemoteInstance {
  struct Failure: Error {
    let sentence: String
  }

  /// Makes an instance of `slot` in this kernel whose calls go to `descriptor`, which is owned from now on. It serves when
  /// this returns; retire it like any other.
  ///
  /// - Parameters:
  ///   - plugin: what runs there, for names and the manifest's promises.
  ///   - canonical: a second socket, for a schema whose URIs have a canonical form.
  static func connect(
    _ descriptor: Int32, canonical: Int32? = nil, slot: SlotConfiguration, plugin: VerifiedPlugin,
    _ kernel: KernelContext, timeoutMs: Int
  ) throws(Failure) -> Instance {
    let image = Image(plugin, entry: ProxyTables.entry)
    let made = InstanceRegistry.shared.register {
      Instance(handle: $0, slot: slot, image: image, kernel: kernel, listeners: [:])
    }
    guard let made else {
      close(descriptor)
      if let canonical { close(canonical) }
      throw Failure(sentence: "too many instances are alive")
    }
    let proxy = ProxyPlugin(
      made, ProxyPlugin.Subject(plugin: plugin, limits: slot.processLimits), kernel.isolation.withLock { $0 })
    made.proxy = proxy
    let deadlineNs = Clock.monotonicNs() + UInt64(timeoutMs) * 1_000_000
    guard proxy.attach(descriptor, canonical: canonical, untilNs: deadlineNs) else {
      InstanceRegistry.shared.withdraw(made)
      throw Failure(sentence: "the process that has slot '\(slot.name)' does not answer")
    }
    made.adopt(UnsafePointer(proxy.table))
    made.state = .configured
    if let missing = made.bindKinds() {
      proxy.destroy()
      InstanceRegistry.shared.withdraw(made)
      throw Failure(sentence: "what has slot '\(slot.name)' there offers no \(missing)")
    }
    made.state = .serving
    return made
  }
}
