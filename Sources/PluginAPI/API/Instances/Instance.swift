/// The life cycle of a Swift plugin's instance.
class Instance<P: Plugin>: InstanceBox {
  // Written by the control thread before the instance is published, read by data calls after: no lock is needed.
  private(set) var plugin: P!
  private(set) var executor: InstanceExecutor?
  /// nil: the plugin hands no state over.
  private let state: StateSide<P>?

  init(_ host: HostHandle, state: StateSide<P>? = nil) {
    self.state = state
    super.init(host)
  }

  override func configure(_ configuration: bp_configuration, _ report: Reporter) -> bp_code {
    let purpose: Context.Purpose =
      switch configuration.purpose {
      case BP_PURPOSE_CHECK: .check
      case BP_PURPOSE_TEST: .test
      default: .serve
      }
    let context = Context(
      host: host, slot: configuration.slot.text, purpose: purpose, stateDirectory: configuration.state_directory.text)
    do {
      let decoded = try ConfigurationDecoder.decode(P.Configuration.self, from: configuration.json.bytes)
      plugin = try P(decoded, context)
      didConfigure()
      return BP_OK
    } catch {
      return report.failed(error)
    }
  }

  /// The plugin has been made; tables that depend on it can be filled.
  func didConfigure() {}

  override func start(_ report: Reporter, deadlineNs: UInt64) -> bp_code {
    let executor = InstanceExecutor(threads: P.threads)
    self.executor = executor
    let plugin = plugin!
    let deadline = Deadline(monotonicNs: deadlineNs == 0 ? .max : deadlineNs)
    switch executor.wait({ try await plugin.start(deadline) }) {
    case .success: return BP_OK
    case .failure(let error): return report.failed(error)
    }
  }

  override func quiesce(_ report: Reporter, deadlineNs: UInt64) -> bp_code {
    let plugin = plugin!
    _ = executor?.wait { await plugin.quiesce(Deadline(monotonicNs: deadlineNs)) }
    return BP_OK
  }

  override func stop(_ report: Reporter, deadlineNs: UInt64) -> bp_code {
    let plugin = plugin!
    _ = executor?.wait { await plugin.stop() }
    executor?.shutDown()
    executor = nil
    return BP_OK
  }

  override func selfTest(_ report: Reporter, scratchDirectory: String, deadlineNs: UInt64) -> bp_code {
    let executor = InstanceExecutor(threads: P.threads)
    defer { executor.shutDown() }
    let plugin = plugin!
    switch executor.wait({ try await plugin.selfTest(scratchDirectory: scratchDirectory) }) {
    case .success: return BP_OK
    case .failure(let error): return report.failed(error)
    }
  }

  override func destroy() {
    executor?.shutDown()
    executor = nil
    plugin = nil
  }

  // MARK: State

  override var stateTable: UnsafeRawPointer? { state?.rawTable }

  override func exportState(_ request: bp_state_export, _ token: bp_token) {
    guard let executor else { return refuse(token) }
    state?.export(request, token, plugin, executor, host)
  }

  override func importState(_ request: bp_state_import, _ token: bp_token) {
    guard let executor else { return refuse(token) }
    state?.importChunk(request, token, plugin, executor, host)
  }

  private func refuse(_ token: bp_token) {
    host.fail(token, .unavailable("the instance is not started"), as: bp_result.self)
  }

  override func grantState(_ token: bp_token, _ credits: UInt32) { state?.grant(token, credits) }

  override func cancelState(_ token: bp_token) -> Bool {
    guard let task = state?.task(of: token) else { return false }
    executor?.cancel(task)
    return true
  }
}
