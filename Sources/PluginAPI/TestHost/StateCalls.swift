import PluginAPI

/// backplane.state/1: a handover as the kernel drives it. Failures are thrown as `Failure`. An export, and the import of
/// one chunk, that takes more than a minute is given up.
extension TestHost {
  private static let stateCallLimit = Duration.seconds(60)

  /// Whether the plugin offers it, and which formats it writes and reads.
  public var stateVersions: (writes: UInt32, readsFrom: UInt32)? {
    extensionTable("backplane.state/1", as: bp_state.self).map {
      ($0.pointee.format_version, $0.pointee.format_version_oldest)
    }
  }

  private func state() throws -> Pinned<bp_state> {
    guard let table = extensionTable("backplane.state/1", as: bp_state.self) else {
      throw Failure.unimplemented("the plugin hands no state over")
    }
    return Pinned(table)
  }

  /// Begins to export one phase. Grant a credit for each chunk that was taken.
  public func beginExport(_ phase: StatePhase, credits: UInt32 = 4) throws -> TestStream<[UInt8], Failure?> {
    try beginExport(rawPhase: phase.rawValue, credits: credits)
  }

  private func beginExport(rawPhase: UInt32, credits: UInt32) throws -> TestStream<[UInt8], Failure?> {
    let state = try state()
    let plugin = pluginSelf
    let core = core
    return try stream(
      bp_result.self, credits: credits, deadline: Self.stateCallLimit,
      submit: { arena, call, token in
        let request = arena.make(
          bp_state_export(size: .size(of: bp_state_export.self), phase: rawPhase, credits: credits, reserved: 0))
        state.pointee.export_state(plugin, call, request, token)
      },
      chunk: { chunk in
        if chunk.pointee.bytes.size > UInt64(BP_STATE_CHUNK_BYTES_MAX) {
          core.violate(
            .malformedResult,
            "a chunk of state has \(chunk.pointee.bytes.size) bytes; \(BP_STATE_CHUNK_BYTES_MAX) are allowed")
        }
        if rawPhase == BP_STATE_ABANDON { core.violate(.malformedResult, "abandoning emitted a chunk") }
        return chunk.pointee.bytes.array
      }, read: { $0.failure })
  }

  /// Exports one phase and returns its chunks.
  public func exportState(_ phase: StatePhase, credits: UInt32 = 4) async throws -> [[UInt8]] {
    let export = try beginExport(phase, credits: credits)
    var chunks: [[UInt8]] = []
    for await chunk in export.chunks {
      chunks.append(chunk)
      export.grant(1)
    }
    if let failure = await export.value { throw failure }
    return chunks
  }

  /// Says that no rest will be asked for.
  public func abandonState() async throws {
    if let failure = await (try beginExport(rawPhase: BP_STATE_ABANDON, credits: 1)).value { throw failure }
  }

  /// Imports one chunk. `formatVersion` nil: the one that this plugin writes.
  public func importState(
    _ bytes: [UInt8], _ phase: StatePhase, sequence: UInt64, isLast: Bool, formatVersion: UInt32? = nil
  ) async throws {
    let failure = try await beginImport(
      bytes, phase, sequence: sequence, isLast: isLast, formatVersion: formatVersion
    ).value
    if let failure { throw failure }
  }

  /// Imports one chunk without waiting.
  public func beginImport(
    _ bytes: [UInt8], _ phase: StatePhase, sequence: UInt64, isLast: Bool, formatVersion: UInt32? = nil
  ) throws -> TestCall<Failure?> {
    let state = try state()
    let plugin = pluginSelf
    return try begin(
      bp_result.self, deadline: Self.stateCallLimit,
      submit: { arena, call, token in
        let request = arena.make(
          bp_state_import(
            size: .size(of: bp_state_import.self), flags: isLast ? BP_STATE_LAST : 0,
            format_version: formatVersion ?? state.pointee.format_version, phase: phase.rawValue, sequence: sequence,
            bytes: arena.view(bytes)))
        state.pointee.import_state(plugin, call, request, token)
      }, read: { $0.failure })
  }

  /// Imports one phase; the end is told by an empty last chunk.
  public func importState(_ chunks: [[UInt8]], _ phase: StatePhase, formatVersion: UInt32? = nil) async throws {
    for (index, chunk) in chunks.enumerated() {
      try await importState(chunk, phase, sequence: UInt64(index), isLast: false, formatVersion: formatVersion)
    }
    try await importState([], phase, sequence: UInt64(chunks.count), isLast: true, formatVersion: formatVersion)
  }

  /// What one phase of a handover moved.
  public struct StateMoved: Sendable, Equatable {
    public var chunks = 0
    public var bytes = 0
  }

  /// Moves one phase to a successor, chunk by chunk: each is granted for when it has been imported.
  @discardableResult
  public func moveState(_ phase: StatePhase, to successor: TestHost, credits: UInt32 = 4) async throws -> StateMoved {
    let version = stateVersions?.writes
    let export = try beginExport(phase, credits: credits)
    var moved = StateMoved()
    for await chunk in export.chunks {
      do {
        try await successor.importState(
          chunk, phase, sequence: UInt64(moved.chunks), isLast: false, formatVersion: version)
      } catch {
        export.cancel()
        _ = await export.value
        throw error
      }
      moved.chunks += 1
      moved.bytes += chunk.count
      export.grant(1)
    }
    if let failure = await export.value { throw failure }
    try await successor.importState([], phase, sequence: UInt64(moved.chunks), isLast: true, formatVersion: version)
    return moved
  }

  /// A whole handover to a successor that has started: snapshot, `beforeFence` (writes that come meanwhile), rest. When
  /// something fails the handover is abandoned, as the kernel would, and this instance serves on.
  public func handOverState(
    to successor: TestHost, credits: UInt32 = 4, beforeFence: () async throws -> Void = {}
  ) async throws {
    do {
      try await moveState(.snapshot, to: successor, credits: credits)
      try await beforeFence()
      try await moveState(.rest, to: successor, credits: credits)
    } catch {
      try await abandonState()
      throw error
    }
  }
}
