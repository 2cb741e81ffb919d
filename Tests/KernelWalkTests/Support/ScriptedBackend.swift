import BackplaneABI
import Synchronization

@testable import Kernel

/// A backend in memory that does as it is told.
final class ScriptedBackend: ScriptedPlugin, @unchecked Sendable {
  // @unchecked: as ScriptedPlugin.
  enum Style: Sendable {
    /// Everything completes before it returns.
    case direct
    /// Everything completes on a thread of its own.
    case ownThread
    /// Reads complete on a thread of its own; a unit waits in `held` until the test calls `finish`.
    case held
    /// Reads wait in `heldReads` until the test calls `finish`.
    case heldReads
    /// Likewise, on threads of the host's.
    case blockingHeldReads
    /// It says that everything completes before it returns, and holds its reads all the same.
    case unfaithful
  }

  struct Stored: Sendable, Equatable {
    var text: String
    var timestampMs: UInt64
    var version: UInt64
  }

  struct Held: @unchecked Sendable {
    // @unchecked: ops point into the request's memory, which the host must keep until the token is completed.
    let unit: bp_unit
    var uris: [String] { (0..<Int(unit.ops_count)).map { unit.ops[$0].uri.text } }
    var texts: [String] { (0..<Int(unit.ops_count)).map { unit.ops[$0].data.text } }
  }

  let held = Inbox<Held>()
  let heldReads = Inbox<UncheckedRead>()
  let cancelled = Inbox<bp_token>()
  private struct State {
    var records: [String: Stored] = [:]
    var reads: [String] = []
    var readBatches: [Int] = []
    var unitBatches: [Int] = []
    /// The URIs that were written, in order.
    var order: [String] = []
    /// Every write fails with this.
    var failure: bp_code?
  }
  private let state = Mutex(State())
  private let thread = WorkerPool(name: "scripted", threads: 1, queueMax: 1000)
  private let style: Style
  private let durability: UInt32
  private let kind: UnsafeRawPointer
  private let queries: UnsafeRawPointer?
  private let listing = Mutex<(scans: Int, queries: [Asked], answer: bp_code)>((0, [], BP_OK))

  /// What a query asked for.
  struct Asked: Sendable, Equatable {
    var prefix: String
    var offset: UInt64
    var limit: UInt32
  }

  /// Pages of scans, and queries, that were asked for.
  var scans: Int { listing.withLock { $0.scans } }
  var asked: [Asked] { listing.withLock { $0.queries } }
  /// With what queries and scans are answered: BP_OK, or a code.
  func answerQueries(with code: bp_code) { listing.withLock { $0.answer = code } }

  var records: [String: Stored] { state.withLock { $0.records } }
  /// The URIs that were asked for, in order.
  var reads: [String] { state.withLock { $0.reads } }
  /// How many reads came with each call, in order.
  var readBatches: [Int] { state.withLock { $0.readBatches } }

  /// How many units came with each call, in order.
  var unitBatches: [Int] { state.withLock { $0.unitBatches } }
  /// The URIs that were written, in order.
  var order: [String] { state.withLock { $0.order } }

  /// Writes fail from now on, or succeed again.
  func fail(_ code: bp_code?) { state.withLock { $0.failure = code } }

  init(_ style: Style, durability: UInt32 = BP_DURABILITY_MEMORY, answersQueries: Bool = false) {
    self.style = style
    self.durability = durability
    let readMode =
      switch style {
      case .direct, .unfaithful: BP_MODE_DIRECT
      case .blockingHeldReads: BP_MODE_BLOCKING
      default: BP_MODE_ASYNC
      }
    kind = ScriptedPlugin.constant(
      bp_backend(
        size: UInt32(MemoryLayout<bp_backend>.size), flags: BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
        apply_mode: readMode, read_mode: readMode, scan_mode: readMode, durability_max: durability,
        apply: { pointer, units, count in
          backend(pointer).state.withLock { $0.unitBatches.append(Int(count)) }
          for index in 0..<Int(count) { backend(pointer).submit(Held(unit: units![index])) }
        },
        read: { pointer, reads, count in
          backend(pointer).state.withLock { $0.readBatches.append(Int(count)) }
          for index in 0..<Int(count) { backend(pointer).submit(UncheckedRead(read: reads![index])) }
        },
        scan: { pointer, scan in
          let scan = UncheckedScan(scan: scan!.pointee)
          backend(pointer).run { backend, _ in backend.scan(scan.scan) }
        }))
    queries =
      answersQueries
      ? ScriptedPlugin.constant(
        bp_backend_query(
          size: UInt32(MemoryLayout<bp_backend_query>.size), mode: readMode,
          query: { pointer, query in
            let query = UncheckedQuery(query: query!.pointee)
            backend(pointer).run { backend, answer in backend.query(query.query, answer) }
          })) : nil
    super.init()
  }

  struct UncheckedRead: @unchecked Sendable {
    // @unchecked: its views live until the token is completed.
    let read: bp_read
  }

  private func submit(_ held: Held) {
    switch style {
    case .direct, .unfaithful: finish(held)
    case .ownThread, .heldReads, .blockingHeldReads: _ = thread.submit { self.finish(held) }
    case .held: self.held.put(held)
    }
  }

  private func submit(_ read: UncheckedRead) {
    if [.heldReads, .blockingHeldReads, .unfaithful].contains(style) { return heldReads.put(read) }
    if style == .direct { self.read(read.read) } else { _ = thread.submit { self.read(read.read) } }
  }

  private struct UncheckedScan: @unchecked Sendable {
    // @unchecked: its views live until the token is completed.
    let scan: bp_scan
  }

  private struct UncheckedQuery: @unchecked Sendable {
    // @unchecked: its views live until the token is completed.
    let query: bp_query
  }

  private func run(_ body: @escaping @Sendable (ScriptedBackend, bp_code) -> Void) {
    let code = listing.withLock { $0.answer }
    if style == .direct { return body(self, code) }
    _ = thread.submit { body(self, code) }
  }

  private func scan(_ scan: bp_scan) {
    let (prefix, cursor) = (scan.prefix.text, scan.cursor.text)
    let below = records.keys.filter { $0.hasPrefix(prefix) && $0 > cursor }.sorted()
    let code = listing.withLock { listing in
      listing.scans += 1
      return listing.answer == BP_UNIMPLEMENTED ? BP_OK : listing.answer
    }
    let page = code == BP_OK ? Array(below.prefix(Int(scan.credits))) : []
    var result = bp_scan_result()
    result.result = ScriptedPlugin.result(code, bp_scan_result.self)
    withItems(page) { items in
      result.items = items.baseAddress
      result.items_count = UInt32(items.count)
      result.item_size = UInt32(MemoryLayout<bp_scan_item>.stride)
      result.cursor = page.count < below.count && code == BP_OK ? items.last!.uri : bp_view()
      complete(scan.token, with: &result)
    }
  }

  private func query(_ query: bp_query, _ code: bp_code) {
    let below = records.keys.filter { $0.hasPrefix(query.prefix.text) }.sorted()
    listing.withLock {
      $0.queries.append(Asked(prefix: query.prefix.text, offset: query.offset, limit: query.limit))
    }
    var result = bp_query_result()
    result.result = ScriptedPlugin.result(code, bp_query_result.self)
    result.total = code == BP_OK ? UInt64(below.count) : 0
    let page = code == BP_OK ? below.dropFirst(Int(clamping: query.offset)).prefix(Int(query.limit)) : []
    withItems(Array(page)) { items in
      result.items = items.baseAddress
      result.items_count = UInt32(items.count)
      result.item_size = UInt32(MemoryLayout<bp_scan_item>.stride)
      complete(query.token, with: &result)
    }
  }

  private func withItems(_ uris: [String], _ body: (UnsafeBufferPointer<bp_scan_item>) -> Void) {
    let copies = uris.map { uri in
      let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: uri.utf8.count)
      _ = copy.initialize(from: uri.utf8)
      return copy
    }
    defer { for copy in copies { copy.deallocate() } }
    let items = copies.map { copy in
      var item = bp_scan_item()
      item.uri = bp_view(UnsafeBufferPointer(copy))
      return item
    }
    items.withUnsafeBufferPointer(body)
  }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? {
    switch id.text {
    case "backplane.backend/1": kind
    case "backplane.backend.query/1": queries
    default: nil
    }
  }
  override func cancel(_ token: bp_token) { cancelled.put(token) }
  override func stop() { thread.shutDown() }

  func put(_ uri: String, _ text: String, version: UInt64 = 0) {
    state.withLock { $0.records[uri] = Stored(text: text, timestampMs: 0, version: version) }
  }

  /// Applies a unit out of the request's memory, or fails it with a code, and completes it.
  func finish(_ held: Held, _ code: bp_code = BP_OK) {
    let unit = held.unit
    let (code, failedOp, absentCount) = state.withLock { state in
      let code = state.failure ?? code
      return code == BP_OK ? apply(unit, &state) : (code, 0, 0)
    }
    var result = bp_write_result()
    result.result = ScriptedPlugin.result(code, bp_write_result.self)
    result.failed_op = failedOp
    result.absent_count = absentCount
    result.durability = durability
    result.ts_ms = unit.ts_ms
    complete(unit.token, with: &result)
  }

  private func apply(_ unit: bp_unit, _ state: inout State) -> (bp_code, failedOp: UInt32, absentCount: UInt32) {
    var absentCount: UInt32 = 0
    for index in 0..<Int(unit.ops_count) {
      let op = unit.ops[index]
      let found = state.records[op.uri.text]
      let holds =
        switch op.condition {
        case BP_IF_ABSENT: found == nil
        case BP_IF_PRESENT: found != nil
        case BP_IF_VERSION: found?.version == op.if_version
        default: true
        }
      guard holds else { return (BP_FAILED_PRECONDITION, UInt32(index), 0) }
    }
    for index in 0..<Int(unit.ops_count) {
      let op = unit.ops[index]
      state.order.append(op.uri.text)
      if op.verb == BP_VERB_DELETE, state.records[op.uri.text] == nil { absentCount += 1 }
      state.records[op.uri.text] =
        op.verb == BP_VERB_DELETE ? nil : Stored(text: op.data.text, timestampMs: unit.ts_ms, version: unit.version)
    }
    return (BP_OK, 0, absentCount)
  }

  func finish(_ read: UncheckedRead) { self.read(read.read) }

  private func read(_ read: bp_read) {
    let uri = read.uri.text
    let found = state.withLock { state in
      state.reads.append(uri)
      return state.records[uri]
    }
    var result = bp_read_result()
    result.result = ScriptedPlugin.result(found == nil ? BP_NOT_FOUND : BP_OK, bp_read_result.self)
    result.record.size = UInt32(MemoryLayout<bp_record>.size)
    result.record.version = found?.version ?? 0
    var text = found?.text ?? ""
    text.withUTF8 { bytes in
      result.record.data = bp_view(bytes)
      complete(read.token, with: &result)
    }
  }
}

private func backend(_ pointer: UnsafeMutableRawPointer?) -> ScriptedBackend {
  unsafeDowncast(ScriptedPlugin.at(pointer), to: ScriptedBackend.self)
}
