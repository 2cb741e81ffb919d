import Glibc
import PluginAPI
import Synchronization

/// A backend in memory that is right, unless its URL names a fault: `toy://forgets-timestamps`.
final class ToyBackend: DirectBackend, HandsOverState {
  enum Fault: String, Sendable {
    case losesOverwrites = "loses-overwrites"
    case ignoresPreconditions = "ignores-preconditions"
    case isNotAtomic = "is-not-atomic"
    case completesTwice = "completes-twice"
    case scansTooMuch = "scans-too-much"
    case scansByOffset = "scans-by-offset"
    case forgetsTimestamps = "forgets-timestamps"
    case overstatesDurability = "overstates-durability"
    case losesRaces = "loses-races"
    case foldsCase = "folds-case"
    /// The seventh overwrite of any record is lost: no trace that names a rule finds it.
    case losesTheSeventh = "loses-the-seventh"
    case hidesTimesInScans = "hides-times-in-scans"
    /// A scan ends after a thousand records.
    case scansAThousand = "scans-a-thousand"
    case cutsLargeData = "cuts-large-data"
    case refusesLargeDataSilently = "refuses-large-data-silently"
    /// Acknowledged before it can be read.
    case acknowledgesEarly = "acknowledges-early"
    case confusesBatches = "confuses-batches"
    case countsWithoutLast = "counts-without-last"
    case pagesBackwards = "pages-backwards"
    // Of a handover.
    case forgetsDeletions = "forgets-deletions"
    case losesLateWrites = "loses-late-writes"
    case takesAnyState = "takes-any-state"
    case restampsState = "restamps-state"
    case stopsForExport = "stops-for-export"
  }

  struct Configuration: Decodable, Sendable {
    var url: String
  }

  static var modes: BackendModes {
    BackendModes(apply: .direct, read: .direct, scan: .direct, query: .direct, durability: .memory)
  }
  static var threads: Int { 1 }

  private struct State {
    var records: [String: Record] = [:]
    /// What reads find when it is not the records themselves.
    var shown: [String: Record] = [:]
    var overwritesCount = 0
    /// URIs that have changed since a snapshot was begun; nil: none was.
    var changed: Set<String>?
    var isExporting = false
  }

  private let fault: Fault?
  private let state = Mutex(State())

  init(_ configuration: Configuration, _ context: Context) throws {
    guard configuration.url.hasPrefix("toy://") else {
      throw ConfigurationProblem(pointer: "/url", message: "the url of a toy begins with toy://")
    }
    let name = String(configuration.url.dropFirst("toy://".count))
    fault = Fault(rawValue: name)
    if fault == nil, !name.isEmpty {
      throw ConfigurationProblem(pointer: "/url", message: "there is no fault '\(name)'")
    }
  }

  func apply(_ units: UnitBatch) {
    for index in 0..<units.count { apply(units[index]) }
  }

  // MARK: State

  static var stateVersion: UInt32 { 1 }

  func exportState(_ phase: StatePhase, to writer: StateWriter) async throws {
    let uris = state.withLock { state -> [String] in
      defer { state.changed = phase == .snapshot ? [] : nil }
      state.isExporting = fault == .stopsForExport
      if fault == .losesLateWrites, phase == .rest { return [] }
      return phase == .snapshot ? Array(state.records.keys) : Array(state.changed ?? [])
    }
    defer { state.withLock { $0.isExporting = false } }
    for uri in uris {
      let record = state.withLock { $0.records[uri] }
      if record == nil, fault == .forgetsDeletions { continue }
      try await writer.write(uri, record)
    }
  }

  func importState(_ phase: StatePhase, from reader: StateReader) async throws {
    do {
      while let (uri, given) = try await reader.nextRecord() {
        var record = given
        if fault == .restampsState { record?.timestampMs += 1 }
        state.withLock { $0.records[uri] = record }
      }
    } catch let failure as Failure where fault == .takesAnyState && failure.code == BP_DATA_LOSS {
      while try await reader.next() != nil {}
    }
  }

  func abandonState() { state.withLock { $0.changed = nil } }

  private func apply(_ unit: UnitCall) {
    if fault == .losesRaces { return applyWithoutLock(unit) }
    if fault == .refusesLargeDataSilently, (0..<unit.count).contains(where: { unit[$0].data.size > 60_000 }) {
      return unit.fail(Failure(code: BP_RESOURCE_EXHAUSTED, "too large"))
    }
    if state.withLock({ $0.isExporting }) { return unit.fail(.unavailable("records are being handed over")) }
    let failed = state.withLock { state in
      let failed = apply(unit, to: &state)
      if failed == nil {
        for index in 0..<unit.count { state.changed?.insert(key(unit[index].uri.text)) }
      }
      return failed
    }
    if let failed { return unit.preconditionFailed(op: failed) }
    guard fault == .acknowledgesEarly else { return complete(unit) }
    // After the completion the unit is no longer there.
    let uris = (0..<unit.count).map { key(unit[$0].uri.text) }
    complete(unit)
    usleep(3_000)
    state.withLock { state in for uri in uris { state.shown[uri] = state.records[uri] } }
  }

  /// Looks and writes in two steps.
  private func applyWithoutLock(_ unit: UnitCall) {
    var copy = state.withLock { $0 }
    // Another thread comes between.
    sched_yield()
    let failed = apply(unit, to: &copy)
    let changed = copy
    state.withLock { $0 = changed }
    if let failed { unit.preconditionFailed(op: failed) } else { complete(unit) }
  }

  private func complete(_ unit: UnitCall) {
    unit.applied(fault == .overstatesDurability ? .disk : .memory, absentCount: absent.withLock { $0[unit.token] ?? 0 })
    if fault == .completesTwice { unit.applied(.memory) }
  }

  /// How many deletes of a unit found nothing.
  private let absent = Mutex<[bp_token: Int]>([:])

  /// The op that failed, or nil.
  private func apply(_ unit: UnitCall, to state: inout State) -> Int? {
    var next = state
    var absentCount = 0
    for index in 0..<unit.count {
      let op = Op(copying: unit[index])
      let uri = key(op.uri)
      if fault != .ignoresPreconditions, !op.condition.holds(for: next.records[uri]?.version) {
        if fault == .isNotAtomic { state = next }
        return index
      }
      switch op.verb {
      case .put(let data, let content):
        if next.records[uri] != nil {
          next.overwritesCount += 1
          if fault == .losesOverwrites { continue }
          if fault == .losesTheSeventh, next.overwritesCount == 7 { continue }
        }
        let isCut = fault == .cutsLargeData && data.count > 60_000
        next.records[uri] = Record(
          data: isCut ? Array(data.prefix(60_000)) : data, content: content,
          timestampMs: fault == .forgetsTimestamps ? 0 : unit.timestampMs,
          version: unit.version)
      case .delete: if next.records.removeValue(forKey: uri) == nil { absentCount += 1 }
      }
    }
    absent.withLock { [absentCount] in $0[unit.token] = absentCount }
    state = next
    return nil
  }

  private func key(_ uri: String) -> String { fault == .foldsCase ? uri.lowercased() : uri }

  func read(_ call: ReadCall) {
    let uri = key(String(decoding: call.uri, as: UTF8.self))
    guard let record = state.withLock({ fault == .acknowledgesEarly ? $0.shown[uri] : $0.records[uri] }) else {
      return call.notFound()
    }
    record.data.withUnsafeBufferPointer {
      call.found(
        timestampMs: record.timestampMs, version: record.version, content: record.content,
        data: call.isWithoutData ? BorrowedBytes(start: nil, count: 0) : $0)
    }
  }

  func read(_ batch: ReadBatch) {
    for index in 0..<batch.count {
      guard fault == .confusesBatches else {
        read(batch[index])
        continue
      }
      // The answer that is the next one's.
      let uri = key(String(decoding: batch[(index + 1) % batch.count].uri, as: UTF8.self))
      let data = state.withLock { $0.records[uri] }?.data ?? []
      data.withUnsafeBufferPointer { batch[index].found(timestampMs: 1, version: 1, content: .json, data: $0) }
    }
  }

  func query(_ call: QueryCall) {
    let prefix = String(decoding: call.prefix, as: UTF8.self)
    var found = state.withLock { $0.records }.filter { $0.key.hasPrefix(prefix) }.sorted { $0.key < $1.key }
    if fault == .pagesBackwards { found.reverse() }
    let total = found.count - (fault == .countsWithoutLast && !found.isEmpty ? 1 : 0)
    withItems(found.dropFirst(call.offset).prefix(call.limit)) { call.page($0, total: total) }
  }

  func scan(_ call: ScanCall) {
    let prefix = String(decoding: call.prefix, as: UTF8.self)
    let cursor = String(decoding: call.cursor, as: UTF8.self)
    var found = state.withLock { $0.records }.filter { $0.key.hasPrefix(prefix) || prefix.hasPrefix($0.key + "/") }
      .sorted { $0.key < $1.key }
    if fault != .scansTooMuch { found.removeAll { !$0.key.hasPrefix(prefix) } }
    if fault == .scansAThousand { found = Array(found.prefix(1_000)) }
    if fault == .scansByOffset {
      found.removeFirst(min(found.count, Int(cursor) ?? 0))
    } else if !cursor.isEmpty {
      found.removeAll { $0.key <= cursor }
    }
    let page = found.prefix(call.limit)
    let next =
      found.count <= call.limit
      ? "" : fault == .scansByOffset ? "\((Int(cursor) ?? 0) + page.count)" : page.last!.key
    withItems(page) { items in
      Array(next.utf8).withUnsafeBufferPointer { call.page(items, cursor: $0) }
    }
  }

  private func withItems(
    _ page: ArraySlice<(key: String, value: Record)>, _ body: (UnsafeBufferPointer<bp_scan_item>) -> Void
  ) {
    let uris = page.map { Array($0.key.utf8) }
    let copies = uris.map { uri in
      let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(1, uri.count))
      _ = copy.initialize(from: uri)
      return copy
    }
    defer { for copy in copies { copy.deallocate() } }
    let items = zip(page, zip(copies, uris)).map { record, uri in
      bp_scan_item(
        uri: bp_view(data: uri.0.baseAddress, size: UInt64(uri.1.count)),
        ts_ms: fault == .hidesTimesInScans ? 0 : record.value.timestampMs,
        version: record.value.version, size_bytes: UInt64(record.value.data.count),
        content: record.value.content.rawValue, reserved: 0)
    }
    items.withUnsafeBufferPointer(body)
  }
}

/// The same with a configuration that takes every key.
final class CarelessBackend: DirectBackend {
  struct Configuration: Decodable, Sendable {
    init(from decoder: any Decoder) throws { _ = try? decoder.singleValueContainer().decode([String: Anything].self) }
  }
  private struct Anything: Decodable {
    init(from decoder: any Decoder) throws {}
  }

  static var modes: BackendModes { ToyBackend.modes }
  private let toy: ToyBackend

  init(_ configuration: Configuration, _ context: Context) throws {
    toy = try ToyBackend(ToyBackend.Configuration(url: "toy://"), context)
  }

  func apply(_ units: UnitBatch) { toy.apply(units) }
  func read(_ call: ReadCall) { toy.read(call) }
  func scan(_ call: ScanCall) { toy.scan(call) }
  func query(_ call: QueryCall) { toy.query(call) }
}

enum Toys {
  static let backend = PluginEntry(ToyBackend.self, id: "org.example.toy", version: "1.0.0") {
    ToyBackend.create($0, $1, $2)
  }
  static let careless = PluginEntry(CarelessBackend.self, id: "org.example.careless", version: "1.0.0") {
    CarelessBackend.create($0, $1, $2)
  }
  static let schema = PluginEntry(ToySchema.self, id: "org.example.rules", version: "1.0.0") {
    ToySchema.create($0, $1, $2)
  }
}
