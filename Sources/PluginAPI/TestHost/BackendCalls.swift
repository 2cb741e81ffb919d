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
      read: { TestHost.record($0) }
    ).get()
  }

  /// The records at several URIs, asked for in one call; in the order of the URIs.
  public func read(_ uris: [String], withoutData: Bool = false, deadline: Duration? = nil) async throws -> [Record?] {
    guard !uris.isEmpty else { return [] }
    let backend = try backend()
    let plugin = pluginSelf
    let batch = Batch()
    let mode = mode(backend.pointee.read_mode)
    // A token for each; only the call to read at the end is the plugin's.
    let calls = try uris.map { uri in
      try begin(
        bp_read_result.self, mode: .async, deadline: deadline,
        submit: { arena, call, token in
          batch.reads.append(
            bp_read(
              size: .size(of: bp_read.self), flags: withoutData ? BP_READ_WITHOUT_DATA : 0, token: token, call: call,
              uri: arena.view(uri)))
        }, read: { TestHost.record($0) })
    }
    let submit = {
      batch.reads.withUnsafeBufferPointer { backend.pointee.read(plugin, $0.baseAddress, UInt32($0.count)) }
    }
    if mode == .blocking { HostThread.detach(submit) } else { submit() }
    if mode == .direct, let open = calls.first(where: { core.isOpen($0.token) }) {
      core.violate(.directNotCompleted, "a direct read returned and token \(open.token) was not completed")
    }
    var records: [Record?] = []
    for call in calls { records.append(try await call.value.get()) }
    return records
  }

  /// Filled before it is handed to the plugin's call, and not changed afterwards.
  private final class Batch: @unchecked Sendable {
    // @unchecked: see above; the pointers inside are the host's, which keeps them until the completion.
    var reads: [bp_read] = []
  }

  private static func record(_ raw: bp_read_result) -> Result<Record?, any Error> {
    if raw.result.code == BP_NOT_FOUND { return .success(nil) }
    if let failure = raw.result.failure { return .failure(failure) }
    return .success(
      Record(
        data: raw.record.data.array, content: Content(rawValue: raw.record.content) ?? .bytes,
        timestampMs: raw.record.ts_ms, version: raw.record.version))
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
        let items = TestHost.items(raw.items, raw.items_count, raw.item_size, core)
        return .success(ScanPage(items, cursor: raw.cursor.size > 0 ? raw.cursor.array : nil))
      }
    ).get()
  }

  private static func items(
    _ first: UnsafePointer<bp_scan_item>?, _ count: UInt32, _ size: UInt32, _ core: HostCore
  ) -> [ScanPage.Item] {
    (0..<Int(count)).map { index in
      let item = UnsafeRawPointer(first!).load(fromByteOffset: index * Int(size), as: bp_scan_item.self)
      let record = Record(
        data: [], content: Content(rawValue: item.content) ?? .bytes, timestampMs: item.ts_ms, version: item.version)
      var value = ScanPage.Item(core.text(item.uri, "the URI of a scanned item"), record)
      value.sizeBytes = Int(item.size_bytes)
      return value
    }
  }

  /// Whether the plugin offers backplane.backend.query/1.
  public var answersQueries: Bool { queries() != nil }

  private func queries() -> Pinned<bp_backend_query>? {
    extensionTable("backplane.backend.query/1", as: bp_backend_query.self).map { Pinned($0) }
  }

  /// One page from the middle, and the total below `prefix`. Nil when the plugin has no queries, or when this one is not
  /// cheaper than a scan.
  public func query(prefix: String, offset: UInt64 = 0, limit: UInt32) async throws -> QueriedPage? {
    guard let queries = queries() else { return nil }
    let plugin = pluginSelf
    let core = core
    return try await call(
      bp_query_result.self, mode: mode(queries.pointee.mode),
      submit: { arena, call, token in
        let query = arena.make(
          bp_query(
            size: .size(of: bp_query.self), flags: 0, token: token, call: call, prefix: arena.view(prefix),
            offset: offset, limit: limit, reserved: 0))
        queries.pointee.query(plugin, query)
      },
      read: { raw -> Result<QueriedPage?, any Error> in
        if raw.result.code == BP_UNIMPLEMENTED { return .success(nil) }
        if let failure = raw.result.failure { return .failure(failure) }
        if raw.items_count > limit {
          core.violate(.malformedResult, "a page has \(raw.items_count) items; \(limit) were asked for")
        }
        return .success(
          QueriedPage(items: TestHost.items(raw.items, raw.items_count, raw.item_size, core), total: Int(raw.total)))
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

/// What a query answers.
public struct QueriedPage: Sendable {
  public var items: [ScanPage.Item]
  /// Records below the prefix, on all pages.
  public var total: Int
}

/// A plugin's table: constant from create to destroy, on any thread.
struct Pinned<T>: @unchecked Sendable {
  // @unchecked: see above; the boundary promises it (core.h, bp_plugin.extension).
  private let pointer: UnsafePointer<T>
  init(_ pointer: UnsafePointer<T>) { self.pointer = pointer }
  var pointee: T { pointer.pointee }
}
