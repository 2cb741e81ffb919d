import PluginAPI

/// The kind `backend`. Failures are thrown as `Failure`, a condition that does not hold as `PreconditionFailed`.
extension TestHost {
  private func backend() throws -> Pinned<bp_backend> {
    guard let table = extensionTable("backplane.backend/1", as: bp_backend.self) else {
      throw Failure.unimplemented("the plugin is no backend")
    }
    return Pinned(table)
  }

  /// Applies one unit.
  @discardableResult
  public func apply(
    _ ops: Op..., timestampMs: UInt64 = 1_700_000_000_000, version: UInt64 = 1, deadline: Duration? = nil
  ) async throws -> WriteOutcome {
    try await apply(ops, timestampMs: timestampMs, version: version, deadline: deadline)
  }

  @discardableResult
  public func apply(
    _ ops: [Op], timestampMs: UInt64 = 1_700_000_000_000, version: UInt64 = 1, deadline: Duration? = nil
  ) async throws -> WriteOutcome {
    try await beginApply(ops, timestampMs: timestampMs, version: version, deadline: deadline).value.get()
  }

  /// Applies one unit without waiting.
  public func beginApply(
    _ ops: [Op], timestampMs: UInt64 = 1_700_000_000_000, version: UInt64 = 1, deadline: Duration? = nil,
    generation: UInt64 = 1
  ) throws -> TestCall<Result<WriteOutcome, any Error>> {
    let backend = try backend()
    let plugin = pluginSelf
    return try begin(
      bp_write_result.self, mode: mode(backend.pointee.apply_mode), deadline: deadline, generation: generation,
      submit: { arena, call, token in
        let unit = bp_unit(
          size: .size(of: bp_unit.self), ops_count: UInt32(ops.count), ops: arena.ops(ops), token: token, call: call,
          ts_ms: timestampMs, version: version)
        // The unit struct itself is valid only until apply returns.
        withUnsafePointer(to: unit) { backend.pointee.apply(plugin, $0, 1) }
      }, read: { TestHost.outcome($0) })
  }

  /// The record at a URI, or nil.
  public func read(_ uri: String, withoutData: Bool = false, deadline: Duration? = nil) async throws -> Record? {
    let backend = try backend()
    let plugin = pluginSelf
    return try await call(
      bp_read_result.self, mode: mode(backend.pointee.read_mode), deadline: deadline,
      submit: { arena, call, token in
        let read = bp_read(
          size: .size(of: bp_read.self), flags: withoutData ? BP_READ_WITHOUT_DATA : 0, token: token, call: call,
          uri: arena.view(uri))
        withUnsafePointer(to: read) { backend.pointee.read(plugin, $0, 1) }
      },
      read: { raw -> Result<Record?, any Error> in
        if raw.result.code == BP_NOT_FOUND { return .success(nil) }
        if let failure = raw.result.failure { return .failure(failure) }
        return .success(
          Record(
            data: raw.record.data.array, content: Content(rawValue: raw.record.content) ?? .bytes,
            timestampMs: raw.record.ts_ms, version: raw.record.version))
      }
    ).get()
  }

  /// All records below a prefix, through as many pages as it takes.
  public func scan(prefix: String = "", pageSize: UInt32 = 100) async throws -> [ScanPage.Item] {
    var items: [ScanPage.Item] = []
    var cursor: [UInt8]? = []
    while let from = cursor {
      let page = try await scanPage(prefix: prefix, after: from, limit: pageSize)
      items += page.items
      cursor = page.cursor
    }
    return items
  }

  /// One page; `cursor` empty: from the beginning.
  public func scanPage(prefix: String, after cursor: [UInt8] = [], limit: UInt32) async throws -> ScanPage {
    let backend = try backend()
    let plugin = pluginSelf
    let core = core
    return try await call(
      bp_scan_result.self, mode: mode(backend.pointee.scan_mode),
      submit: { arena, call, token in
        let scan = arena.make(
          bp_scan(
            size: .size(of: bp_scan.self), flags: 0, token: token, call: call, prefix: arena.view(prefix),
            cursor: arena.view(cursor), credits: limit, reserved: 0))
        backend.pointee.scan(plugin, scan)
      },
      read: { raw -> Result<ScanPage, any Error> in
        if let failure = raw.result.failure { return .failure(failure) }
        if raw.items_count > limit {
          core.violate(.malformedResult, "a page has \(raw.items_count) items; \(limit) were asked for")
        }
        if raw.cursor.size > 4096 {
          core.violate(.malformedResult, "a cursor has \(raw.cursor.size) bytes; 4096 are allowed")
        }
        let items = (0..<Int(raw.items_count)).map { index in
          let item = UnsafeRawPointer(raw.items!).load(
            fromByteOffset: index * Int(raw.item_size), as: bp_scan_item.self)
          let record = Record(
            data: [], content: Content(rawValue: item.content) ?? .bytes, timestampMs: item.ts_ms,
            version: item.version)
          var value = ScanPage.Item(core.text(item.uri, "the URI of a scanned item"), record)
          value.sizeBytes = Int(item.size_bytes)
          return value
        }
        return .success(ScanPage(items, cursor: raw.cursor.size > 0 ? raw.cursor.array : nil))
      }
    ).get()
  }

  static func outcome(_ raw: bp_write_result) -> Result<WriteOutcome, any Error> {
    if raw.result.code == BP_FAILED_PRECONDITION { return .failure(PreconditionFailed(op: Int(raw.failed_op))) }
    if let failure = raw.result.failure { return .failure(failure) }
    return .success(
      WriteOutcome(
        durability: Durability(rawValue: raw.durability) ?? .none, absentCount: Int(raw.absent_count),
        timestampMs: raw.ts_ms))
  }

  func mode(_ raw: UInt32) -> CallMode {
    if let mode = CallMode(rawValue: raw) { return mode }
    core.violate(.tableMalformed, "\(raw) is not a mode")
    return .async
  }
}

/// A plugin's table: constant from create to destroy, on any thread.
struct Pinned<T>: @unchecked Sendable {
  // @unchecked: see above; the boundary promises it (core.h, bp_plugin.extension).
  private let pointer: UnsafePointer<T>
  init(_ pointer: UnsafePointer<T>) { self.pointer = pointer }
  var pointee: T { pointer.pointee }
}
