import PluginAPI
import Synchronization

/// A host for one instance of a plugin, to test it without the kernel.
///
/// ```swift
/// let host = try TestHost(entry: plugin.pointer, configuration: #"{"url": "memory://"}"#)
/// try await host.start()
/// try await host.apply(.put("mutable://open/a", Array("1".utf8)))
/// try await host.stop()
/// host.destroy()
/// #expect(host.violations.isEmpty)
/// ```
///
/// It speaks the boundary and nothing else, so it tests what the kernel would see, and it writes down every breach of
/// the boundary's manners (`violations`). Use it from any task; life-cycle calls one at a time.
public final class TestHost: Sendable {
  let core: HostCore
  /// The plugin's table, as `create` returned it. Valid until `destroy`.
  public var plugin: UnsafePointer<bp_plugin> { table.pointer }

  struct Table: @unchecked Sendable {
    // @unchecked: a table is constant from create until destroy and its functions say themselves on which threads.
    let pointer: UnsafePointer<bp_plugin>
    var `self`: UnsafeMutableRawPointer? { pointer.pointee.`self` }
  }
  let table: Table
  private let teardown = Mutex(Teardown.pending)
  private enum Teardown { case pending, abandoned, done }

  /// Creates an instance and configures it.
  ///
  /// - `entry`: what the plugin's entry function returns (`PluginEntry.pointer`).
  /// - `configuration`: the slot's configuration, a JSON object.
  /// - `stateDirectory`: absolute and existing, or empty for a plugin that keeps nothing.
  /// - `purpose`: `.check` and `.test` make a probe: host extensions answer `BP_UNAVAILABLE`.
  /// - `node`: what answers backplane.node/1.
  /// - `feed`: what answers backplane.feed/1.
  /// - `timers`: what answers backplane.timer/1.
  ///
  /// Throws `TestHostError` with the plugin's diagnostics.
  public convenience init(
    entry: UnsafePointer<bp_entry>, configuration: String = "{}", slot: String = "test", stateDirectory: String = "",
    purpose: Context.Purpose = .serve, node: any TestNode = InMemoryNode(), feed: ScriptedFeed = ScriptedFeed(),
    timers: TestTimers = TestTimers()
  ) throws {
    try self.init(creating: entry, slot: slot, purpose: purpose, node: node, feed: feed, timers: timers)
    try configure(configuration, stateDirectory: stateDirectory, purpose: purpose)
  }

  /// Creates an instance without configuring it.
  public convenience init(
    creating entry: UnsafePointer<bp_entry>, slot: String = "test", purpose: Context.Purpose = .serve,
    node: any TestNode = InMemoryNode(), feed: ScriptedFeed = ScriptedFeed(), timers: TestTimers = TestTimers()
  ) throws {
    try TestHost.check(entry.pointee)
    try self.init(slot: slot, purpose: purpose, node: node, feed: feed, timers: timers) {
      entry.pointee.create($0, $1, $2)
    }
    for index in 0..<Int(entry.pointee.kinds_count) {
      let kind = entry.pointee.kinds[index].text
      if "backplane.\(kind)/1".withView({ plugin.pointee.extension(pluginSelf, $0) }) == nil {
        core.violate(
          .tableMalformed, "the entry names the kind '\(kind)' but extension(\"backplane.\(kind)/1\") is NULL")
      }
    }
  }

  /// Takes an instance from `create` itself: for a plugin that has no image, like a proxy.
  public init(
    slot: String = "test", purpose: Context.Purpose = .serve, node: any TestNode = InMemoryNode(),
    feed: ScriptedFeed = ScriptedFeed(), timers: TestTimers = TestTimers(),
    create: (UnsafePointer<bp_host>, bp_instance, UnsafePointer<bp_report>) -> UnsafePointer<bp_plugin>?
  ) throws {
    let core = HostRegistry.add {
      HostCore(instance: $0, slot: slot, node: node, feed: feed, timers: timers, isProbe: purpose != .serve)
    }
    let collector = DiagnosticCollector(core)
    let made = collector.withReport { create(HostTable.pointer, core.instance, $0) }
    guard let made else {
      HostRegistry.remove(core.instance)
      throw TestHostError(step: "create", code: BP_UNKNOWN, diagnostics: collector.diagnostics)
    }
    self.core = core
    table = Table(pointer: made)
    if made.pointee.size < UInt32.size(of: bp_plugin.self) {
      core.violate(.tableMalformed, "bp_plugin has size \(made.pointee.size), not \(MemoryLayout<bp_plugin>.size)")
    }
  }

  deinit {
    destroy()
    HostRegistry.remove(core.instance)
  }

  private static func check(_ entry: bp_entry) throws {
    func refuse(_ sentence: String) -> TestHostError {
      TestHostError(
        step: "entry", code: BP_INVALID_ARGUMENT,
        diagnostics: [Diagnostic(severity: .error, pointer: "", message: sentence)])
    }
    guard entry.size >= UInt32.size(of: bp_entry.self) else { throw refuse("bp_entry.size is \(entry.size)") }
    guard entry.abi_major == BP_ABI_MAJOR, entry.abi_minor == BP_ABI_MINOR else {
      throw refuse(
        "the plugin was built for ABI \(entry.abi_major).\(entry.abi_minor), not \(BP_ABI_MAJOR).\(BP_ABI_MINOR)")
    }
    guard entry.id.size > 0, entry.version.size > 0, entry.kinds_count > 0 else {
      throw refuse("bp_entry needs an id, a version and at least one kind")
    }
  }

  // MARK: What was seen

  /// Every breach of the boundary's manners so far.
  public var violations: [Violation] { core.state.withLock { $0.violations } }
  public var logs: [LogEvent] { core.state.withLock { $0.logs } }
  public var metrics: [MetricSeries] { core.state.withLock { $0.metrics } }
  /// Forgets the logs and every value that was recorded so far, for a test that measures memory.
  public func forgetObservations() {
    core.state.withLock { state in
      state.logs = []
      for index in state.metrics.indices { state.metrics[index].recorded = [] }
    }
  }
  /// What the plugin last said; nil when it said nothing.
  public var health: HealthReport? { core.state.withLock { $0.health } }
  /// The host's name for the instance.
  public var instance: bp_instance { core.instance }
  /// Calls that the plugin has not completed.
  public var openCallsCount: Int { core.state.withLock { $0.calls.open.count } }
  /// Completions that came after the caller had been answered (a deadline had passed).
  public var lateCompletionsCount: Int { core.state.withLock { $0.lateCompletionsCount } }
  /// The loopback port behind a listener's name; bound now when the plugin has not asked for it yet.
  public func port(of listener: String) -> UInt16? { core.listener(listener)?.port }

  // MARK: Life cycle

  /// Configures (again). Throws `TestHostError` with the diagnostics, their JSON pointers included. Returns warnings and
  /// notes.
  @discardableResult
  public func configure(
    _ json: String, stateDirectory: String = "", purpose: Context.Purpose = .serve
  ) throws -> [Diagnostic] {
    // The views die with the arena when this returns: a plugin that keeps one reads rubbish.
    let arena = RequestArena()
    let configuration = arena.make(
      bp_configuration(
        size: .size(of: bp_configuration.self), purpose: purpose.rawValue, slot: arena.view(core.slot),
        json: arena.view(json), state_directory: arena.view(stateDirectory)))
    let collector = DiagnosticCollector(core)
    let code = collector.withReport { table.pointer.pointee.configure(table.`self`, configuration, $0) }
    try collector.check("configure", code)
    core.state.withLock { $0.life = max($0.life, .configured) }
    return collector.diagnostics
  }

  /// Starts the instance on a control thread.
  @discardableResult
  public func start(within limit: Duration = .seconds(10)) async throws -> [Diagnostic] {
    try expect("start", .configured)
    core.state.withLock { $0.life = .starting }
    do {
      let diagnostics = try await control("start", limit) { $0.pointee.start($0.pointee.`self`, $1, $2) }
      core.state.withLock { $0.life = .serving }
      return diagnostics
    } catch {
      core.state.withLock { $0.life = .configured }
      throw error
    }
  }

  /// Throws `TestHostError` with `BP_DEADLINE_EXCEEDED` when something is left.
  public func quiesce(within limit: Duration = .seconds(5)) async throws {
    try expect("quiesce", .serving)
    defer { core.state.withLock { $0.life = max($0.life, .quiesced) } }
    // What the instance asked of the host ends first with a grace of the host's own: here, at once.
    _ = try await control("quiesce", limit) { $0.pointee.quiesce($0.pointee.`self`, $1, $2) }
  }

  /// Stops the instance. Tokens that it leaves open are violations; their callers get `BP_UNAVAILABLE`.
  public func stop(within limit: Duration = .seconds(10)) async throws {
    guard [.serving, .quiesced].contains(core.life) else { return }
    await core.finishHostCalls()
    defer { afterStop() }
    _ = try await control("stop", limit) { $0.pointee.stop($0.pointee.`self`, $1, $2) }
  }

  /// Destroys the instance; stops it first when it serves. Idempotent, also done by deinit. Blocks.
  public func destroy() {
    let isMine = teardown.withLock { teardown in
      defer { if teardown == .pending { teardown = .done } }
      return teardown == .pending
    }
    guard isMine else { return }
    if [.serving, .quiesced].contains(core.life) {
      core.feed.endAllAndWait(of: core)
      core.timers.endAll(of: core)
      let collector = DiagnosticCollector(core)
      _ = collector.withReport {
        table.pointer.pointee.stop(table.`self`, monotonicNow() + 10_000_000_000, $0)
      }
      afterStop()
    }
    table.pointer.pointee.destroy(table.`self`)
    core.state.withLock { $0.life = .destroyed }
    core.closeListeners()
  }

  /// Runs backplane.self_test/1; the instance must have been made with `purpose: .test`. Throws `TestHostError`.
  public func selfTest(scratchDirectory: String, within limit: Duration = .seconds(10)) async throws {
    guard let test = extensionTable("backplane.self_test/1", as: bp_self_test.self) else {
      throw Failure.unimplemented("the plugin has no backplane.self_test/1")
    }
    let run = test.pointee.run
    _ = try await control("self_test", limit) { plugin, deadline, report in
      scratchDirectory.withView { run!(plugin.pointee.`self`, $0, deadline, report) }
    }
  }

  private func expect(_ step: String, _ life: HostCore.Life) throws {
    guard core.life != life else { return }
    throw TestHostError(
      step: step, code: BP_FAILED_PRECONDITION,
      diagnostics: [
        Diagnostic(
          severity: .error, pointer: "", message: "the instance is \(core.life); \(step) needs it \(life)")
      ])
  }

  private func afterStop() {
    core.state.withLock { $0.life = .stopped }
    for (token, _) in core.state.withLock({ $0.calls.open }) {
      core.violate(.neverCompleted, "stop returned and token \(token) had not been completed")
      core.giveUp(token, .unavailable("the plugin stopped without completing the call"))
    }
  }

  private func control(
    _ step: String, _ limit: Duration,
    _ body: @escaping @Sendable (UnsafePointer<bp_plugin>, UInt64, UnsafePointer<bp_report>) -> bp_code
  ) async throws -> [Diagnostic] {
    let collector = DiagnosticCollector(core)
    let table = table
    let end = OneShot<bp_code?>()
    let deadline = monotonicNow() + limit.nanoseconds
    HostThread.detach { end.set(collector.withReport { body(table.pointer, deadline, $0) }) }
    // The host stops waiting a second after what it told the plugin: a plugin may come back right at its deadline.
    let watchdog = Task {
      try? await Task.sleep(for: limit + .seconds(1))
      if !Task.isCancelled { end.set(nil) }
    }
    defer { watchdog.cancel() }
    guard let code = await end.value else {
      teardown.withLock { $0 = .abandoned }
      core.violate(.didNotReturn, "\(step) did not return within \(limit)")
      throw TestHostError(step: step, code: BP_DEADLINE_EXCEEDED, diagnostics: collector.diagnostics)
    }
    try collector.check(step, code)
    return collector.diagnostics
  }
}

extension Context.Purpose {
  var rawValue: UInt32 {
    switch self {
    case .serve: BP_PURPOSE_SERVE
    case .check: BP_PURPOSE_CHECK
    case .test: BP_PURPOSE_TEST
    }
  }
}
