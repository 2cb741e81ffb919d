import Dispatch
import PluginAPI
import PluginTestHost

/// One serving backend, asked over the boundary with answers as they came: nothing is made good on the way.
struct BackendDriver: @unchecked Sendable {
  // @unchecked: the table is constant while the host lives, on any thread (core.h, bp_plugin.extension).
  let host: TestHost
  private let pointer: UnsafePointer<bp_backend>
  /// Where a blocking apply runs: it promises an order, so a host calls it from one place alone (core.h, "Modes").
  private let blockingApplies = DispatchQueue(label: "conformance.apply")

  /// A call that takes longer has been forgotten.
  static let callLimit = Duration.seconds(60)

  var table: bp_backend { pointer.pointee }
  var traits: BackendTraits { BackendTraits(table.flags) }

  /// Of each call; nil when none is set, because what keeps it costs memory until it has passed.
  private let callLimit: Duration?

  init(_ host: TestHost, hasDeadlines: Bool = true) throws {
    callLimit = hasDeadlines ? BackendDriver.callLimit : nil
    guard let pointer = host.extensionTable("backplane.backend/1", as: bp_backend.self) else {
      throw Problem("extension(\"backplane.backend/1\") is NULL")
    }
    self.host = host
    self.pointer = pointer
  }

  struct WriteAnswer: Sendable, Equatable {
    var code: bp_code
    var message: String
    var durability: UInt32
    var absentCount: UInt32
    var failedOp: UInt32
  }

  struct ReadAnswer: Sendable {
    var code: bp_code
    var message: String
    var record: Record?
  }

  struct Page: Sendable {
    var items: [ScanPage.Item]
    var cursor: [UInt8]
  }

  /// What a unit is stamped with: the time and the version of its number.
  static func timestampMs(_ stamp: UInt64) -> UInt64 { 1_700_000_000_000 + stamp * 7 }

  // MARK: Writes

  /// `notify` is called with the answer on the plugin's thread.
  func beginApply(
    _ ops: [Op], stamp: UInt64, notify: (@Sendable (WriteAnswer) -> Void)? = nil
  ) throws -> TestCall<WriteAnswer> {
    try host.begin(
      bp_write_result.self, mode: table.apply_mode == BP_MODE_DIRECT ? .direct : .async,
      deadline: callLimit,
      submit: { arena, call, token in
        submit(Units(values: [BackendDriver.unit(ops, stamp, arena, call, token)]))
      }, read: { BackendDriver.answer($0, notify) })
  }

  /// Units whose memory lives until they are completed.
  private struct Units: @unchecked Sendable {
    // @unchecked: the pointers inside are the host's, which keeps them until the completion, on any thread.
    var values: [bp_unit]
  }

  private func submit(_ units: Units) {
    let apply: @Sendable () -> Void = {
      units.values.withUnsafeBufferPointer { pointer.pointee.apply(host.pluginSelf, $0.baseAddress, UInt32($0.count)) }
    }
    if table.apply_mode == BP_MODE_BLOCKING { blockingApplies.async(execute: apply) } else { apply() }
  }

  func apply(_ ops: [Op], stamp: UInt64) async throws -> WriteAnswer {
    let answer = try await beginApply(ops, stamp: stamp).value
    try require(answer.code != BP_DEADLINE_EXCEEDED, "apply did not complete within \(BackendDriver.callLimit)")
    return answer
  }

  /// Several units in one call to apply.
  func apply(units: [(ops: [Op], stamp: UInt64)]) async throws -> [WriteAnswer] {
    let batch = Batch()
    // The host gives out one token for each begin; only the call to apply at the end is the plugin's.
    let calls = try units.map { ops, stamp in
      try host.begin(
        bp_write_result.self, mode: .async, deadline: callLimit,
        submit: { arena, call, token in batch.units.append(BackendDriver.unit(ops, stamp, arena, call, token)) },
        read: { BackendDriver.answer($0, nil) })
    }
    submit(Units(values: batch.units))
    var answers: [WriteAnswer] = []
    for call in calls {
      let answer = await call.value
      try require(answer.code != BP_DEADLINE_EXCEEDED, "apply did not complete within \(BackendDriver.callLimit)")
      answers.append(answer)
    }
    return answers
  }

  /// Filled and used by one task, before any call is made.
  private final class Batch {
    var units: [bp_unit] = []
  }

  private static func unit(
    _ ops: [Op], _ stamp: UInt64, _ arena: RequestArena, _ call: UnsafePointer<bp_call>, _ token: bp_token
  ) -> bp_unit {
    bp_unit(
      size: .size(of: bp_unit.self), ops_count: UInt32(ops.count), ops: arena.ops(ops), token: token, call: call,
      ts_ms: timestampMs(stamp), version: stamp)
  }

  private static func answer(_ raw: bp_write_result, _ notify: (@Sendable (WriteAnswer) -> Void)?) -> WriteAnswer {
    let answer = WriteAnswer(
      code: raw.result.code, message: raw.result.message.text, durability: raw.durability,
      absentCount: raw.absent_count, failedOp: raw.failed_op)
    notify?(answer)
    return answer
  }

  // MARK: Reads

  func beginRead(
    _ uri: String, withoutData: Bool = false, notify: (@Sendable (ReadAnswer) -> Void)? = nil
  ) throws -> TestCall<ReadAnswer> {
    try host.begin(
      bp_read_result.self, mode: CallMode(rawValue: table.read_mode) ?? .async, deadline: callLimit,
      submit: { arena, call, token in
        let read = bp_read(
          size: .size(of: bp_read.self), flags: withoutData ? BP_READ_WITHOUT_DATA : 0, token: token, call: call,
          uri: arena.view(uri))
        withUnsafePointer(to: read) { pointer.pointee.read(host.pluginSelf, $0, 1) }
      },
      read: { raw in
        var answer = ReadAnswer(code: raw.result.code, message: raw.result.message.text)
        if raw.result.code == BP_OK {
          answer.record = Record(
            data: raw.record.data.array, content: Content(rawValue: raw.record.content) ?? .bytes,
            timestampMs: raw.record.ts_ms, version: raw.record.version)
        }
        notify?(answer)
        return answer
      })
  }

  /// The record, or nil when there is none; throws what else was answered.
  func read(_ uri: String, withoutData: Bool = false) async throws -> Record? {
    try BackendDriver.record(await beginRead(uri, withoutData: withoutData).value, uri)
  }

  static func record(_ answer: ReadAnswer, _ uri: String) throws -> Record? {
    switch answer.code {
    case BP_OK: return answer.record
    case BP_NOT_FOUND: return nil
    case BP_DEADLINE_EXCEEDED: throw Problem("read of \(shown(uri)) did not complete within \(callLimit)")
    default: throw Problem("read of \(shown(uri)) failed with code \(answer.code): \(answer.message)")
    }
  }

  // MARK: Scans

  func page(prefix: String, cursor: [UInt8], credits: UInt32) async throws -> Page {
    try await host.call(
      bp_scan_result.self, mode: CallMode(rawValue: table.scan_mode) ?? .async, deadline: callLimit,
      submit: { arena, call, token in
        let scan = arena.make(
          bp_scan(
            size: .size(of: bp_scan.self), flags: 0, token: token, call: call, prefix: arena.view(prefix),
            cursor: arena.view(cursor), credits: credits, reserved: 0))
        pointer.pointee.scan(host.pluginSelf, scan)
      }, read: { BackendDriver.page($0, credits) }
    ).get()
  }

  private static func page(_ raw: bp_scan_result, _ credits: UInt32) -> Result<Page, Problem> {
    switch raw.result.code {
    case BP_OK: break
    case BP_DEADLINE_EXCEEDED: return .failure(Problem("scan did not complete within \(callLimit)"))
    default: return .failure(Problem("scan failed with code \(raw.result.code): \(raw.result.message.text)"))
    }
    guard raw.items_count <= credits else {
      return .failure(Problem("a page has \(raw.items_count) items; at most \(credits) were asked for"))
    }
    guard raw.cursor.size <= 4_096 else {
      return .failure(Problem("a cursor has \(raw.cursor.size) bytes; 4096 are allowed"))
    }
    guard raw.items_count == 0 || (raw.items != nil && Int(raw.item_size) >= MemoryLayout<bp_scan_item>.size) else {
      return .failure(Problem("a page has \(raw.items_count) items, but item_size is \(raw.item_size) or items NULL"))
    }
    let items = (0..<Int(raw.items_count)).map { index in
      let item = UnsafeRawPointer(raw.items!).load(fromByteOffset: index * Int(raw.item_size), as: bp_scan_item.self)
      var value = ScanPage.Item(
        item.uri.text,
        Record(
          data: [], content: Content(rawValue: item.content) ?? .bytes, timestampMs: item.ts_ms, version: item.version))
      value.sizeBytes = Int(clamping: item.size_bytes)
      return value
    }
    return .success(Page(items: items, cursor: raw.cursor.array))
  }

  /// All pages. `itemsMax` bounds a scan that never ends.
  func scan(prefix: String, credits: UInt32, itemsMax: Int) async throws -> [ScanPage.Item] {
    var items: [ScanPage.Item] = []
    var cursor: [UInt8] = []
    var pagesCount = 0
    repeat {
      let page = try await page(prefix: prefix, cursor: cursor, credits: credits)
      items += page.items
      cursor = page.cursor
      pagesCount += 1
      // Pages may be short and even empty, but a cursor has to get on.
      try require(
        items.count <= itemsMax + 1_000 && pagesCount <= 4 * itemsMax + 100,
        "a scan of '\(prefix)' does not end: \(items.count) items on \(pagesCount) pages of at most \(credits), and "
          + "there are \(itemsMax) records")
    } while !cursor.isEmpty
    return items
  }

  /// Long URIs cut for sentences.
  static func shown(_ uri: String) -> String {
    uri.utf8.count <= 120 ? uri : "\(uri.prefix(80))... (\(uri.utf8.count) characters)"
  }
}
