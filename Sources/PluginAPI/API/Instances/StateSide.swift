import Synchronization

/// What an instance of a `HandsOverState` plugin has beside its kind: the table of backplane.state/1 and the export or
/// import under way. The methods are kept as closures, so that the instance of a kind needs no second form.
final class StateSide<P: Plugin>: @unchecked Sendable {
  // @unchecked: `table` is written once and constant until deinit; what changes is in the mutex.
  private struct State {
    var export: StateExport?
    var imports: StateImport?
    /// A snapshot has been exported whole, and what changes is being noted.
    var isNoting = false
    /// The open export was abandoned; its completion is still to come.
    var isAbandoned = false
  }

  private let table: UnsafeMutablePointer<bp_state>
  private let exportState: @Sendable (P, StatePhase, StateWriter) async throws -> Void
  private let importState: @Sendable (P, StatePhase, StateReader) async throws -> Void
  private let abandonState: @Sendable (P) -> Void
  private let state = Mutex(State())

  init() where P: HandsOverState {
    exportState = { try await $0.exportState($1, to: $2) }
    importState = { try await $0.importState($1, from: $2) }
    abandonState = { $0.abandonState() }
    table = .allocate(capacity: 1)
    table.initialize(
      to: bp_state(
        size: .size(of: bp_state.self), format_version: P.stateVersion, format_version_oldest: P.stateVersionOldest,
        reserved: 0,
        export_state: { pointer, _, request, token in
          InstanceBox.with(pointer) { $0.exportState(request!.pointee, token) }
        },
        import_state: { pointer, _, request, token in
          InstanceBox.with(pointer) { $0.importState(request!.pointee, token) }
        }))
  }

  deinit { table.deallocate() }

  var rawTable: UnsafeRawPointer { UnsafeRawPointer(table) }

  // MARK: Out

  func export(
    _ request: bp_state_export, _ token: bp_token, _ plugin: P, _ executor: InstanceExecutor, _ host: HostHandle
  ) {
    if request.phase == BP_STATE_ABANDON {
      let open: bp_token? = state.withLock { state in
        state.isNoting = false
        state.isAbandoned = state.export != nil
        return state.export?.token
      }
      if let open { executor.cancel(open) }
      abandonState(plugin)
      var result = bp_result.ok(bp_result.self)
      return host.complete(token, with: &result)
    }
    let export = StateExport(host: host, token: token, credits: request.credits)
    let refusal: Failure? = state.withLock { state in
      guard StatePhase(rawValue: request.phase) != nil else {
        return .unimplemented("phase \(request.phase) of a handover is not known to this plugin; rebuild it")
      }
      if state.export != nil {
        return Failure(code: BP_FAILED_PRECONDITION, "an export is open; wait for its completion")
      }
      if request.phase == BP_STATE_REST, !state.isNoting {
        return Failure(code: BP_FAILED_PRECONDITION, "no snapshot has been exported that a rest could follow")
      }
      state.isNoting = false
      state.isAbandoned = false
      state.export = export
      return nil
    }
    if let refusal { return host.fail(token, refusal, as: bp_result.self) }
    let phase = StatePhase(rawValue: request.phase)!
    executor.submit(token) { [self] in
      var failure: Failure?
      do {
        let writer = StateWriter(export)
        try await exportState(plugin, phase, writer)
        try await writer.finish()
      } catch {
        failure = Failure(error)
      }
      let isNoting = state.withLock { state in
        state.isNoting = failure == nil && phase == .snapshot && !state.isAbandoned
        return state.isNoting
      }
      if !isNoting { abandonState(plugin) }
      state.withLock { $0.export = nil }
      if let failure { return host.fail(token, failure, as: bp_result.self) }
      var result = bp_result.ok(bp_result.self)
      host.complete(token, with: &result)
    }
  }

  func grant(_ token: bp_token, _ credits: UInt32) {
    let export = state.withLock { $0.export }
    if let export, export.token == token { export.grant(credits) }
  }

  // MARK: In

  func importChunk(
    _ request: bp_state_import, _ token: bp_token, _ plugin: P, _ executor: InstanceExecutor, _ host: HostHandle
  ) {
    func refuse(_ failure: Failure) { host.fail(token, failure, as: bp_result.self) }
    guard let phase = StatePhase(rawValue: request.phase) else {
      return refuse(.invalid("phase \(request.phase) of a handover cannot be imported"))
    }
    let version = request.format_version
    guard version >= table.pointee.format_version_oldest, version <= table.pointee.format_version else {
      let readable =
        table.pointee.format_version_oldest == table.pointee.format_version
        ? "\(table.pointee.format_version)"
        : "\(table.pointee.format_version_oldest) to \(table.pointee.format_version)"
      return refuse(.unimplemented("state of version \(version) is not read by this plugin, which reads \(readable)"))
    }
    let chunk = StateImport.Chunk(
      token: token, bytes: request.bytes, isLast: request.flags & BP_STATE_LAST != 0)
    if request.sequence > 0 {
      guard let imports = state.withLock({ $0.imports }), imports.phase == phase else {
        return refuse(.invalid("chunk \(request.sequence) of the \(phase) came before the first one"))
      }
      return imports.deliver(chunk, sequence: request.sequence)
    }
    let imports = StateImport(host: host, phase: phase, token: token)
    let isFree = state.withLock { state in
      guard state.imports == nil else { return false }
      state.imports = imports
      return true
    }
    guard isFree else {
      return refuse(Failure(code: BP_FAILED_PRECONDITION, "an import is open; the \(phase) cannot begin"))
    }
    executor.submit(token) { [self] in
      var failure: Failure?
      do {
        let reader = StateReader(imports, formatVersion: version)
        try await importState(plugin, phase, reader)
        // To the end, whatever the plugin thinks: the last chunk's completion is the phase's.
        while let left = try await reader.next() {
          throw Failure(code: BP_DATA_LOSS, "\(left.count) bytes or more follow what the plugin took for the end")
        }
      } catch {
        failure = Failure(error)
      }
      state.withLock { $0.imports = nil }
      imports.finish(failure)
    }
    imports.deliver(chunk, sequence: 0)
  }

  /// Whose task `token` is to be cancelled with; nil when it is no call of a handover.
  func task(of token: bp_token) -> bp_token? {
    state.withLock { state in
      if state.export?.token == token { return token }
      return state.imports.flatMap { $0.owns(token) ? $0.token : nil }
    }
  }
}
