import BackendSupport
import PluginAPI
import Synchronization

/// Records in the memory of the process; they die with the instance.
public final class MemoryBackend: DirectBackend, HandsOverState {
  public static var modes: BackendModes {
    BackendModes(apply: .direct, read: .direct, scan: .direct, query: .direct, durability: .memory)
  }
  public static var threads: Int { 1 }

  private struct Gauges: Sendable {
    var records: Gauge
    var sizeBytes: Gauge
  }

  private final class GaugesBox: Sendable {
    let gauges = Mutex<Gauges?>(nil)

    func set(_ totals: RecordStore.Totals) {
      guard let gauges = gauges.withLock({ $0 }) else { return }
      gauges.records.set(Double(totals.records))
      gauges.sizeBytes.set(Double(totals.sizeBytes))
    }
  }

  private let context: Context
  private let store: RecordStore
  private let gauges: GaugesBox

  public init(_ configuration: MemoryConfiguration, _ context: Context) throws {
    let gauges = GaugesBox()
    self.context = context
    self.gauges = gauges
    store = RecordStore(limits: try configuration.limits()) { gauges.set($0) }
  }

  public func start() async throws {
    let metrics = context.metrics
    let gauges = Gauges(
      records: metrics.gauge("records", help: "Records held in memory"),
      sizeBytes: metrics.gauge("size_bytes", help: "Bytes held in memory, as size_bytes_max counts them", unit: "bytes")
    )
    self.gauges.gauges.withLock { $0 = gauges }
  }

  public func apply(_ units: UnitBatch) {
    for index in 0..<units.count {
      let unit = units[index]
      unit.complete(store.apply(unit), .memory)
    }
  }

  public func read(_ call: ReadCall) {
    guard let record = store.find(call.uri) else { return call.notFound() }
    // The reference keeps the bytes while the host looks at them; no lock is held.
    withExtendedLifetime(record) {
      let header = record.header
      call.found(
        timestampMs: header.timestampMs, version: header.version, content: Content(rawValue: header.content) ?? .bytes,
        data: call.isWithoutData ? BorrowedBytes(start: nil, count: 0) : record.data)
    }
  }

  public func scan(_ call: ScanCall) {
    do throws(Failure) {
      let (records, cursor) = try store.page(prefix: call.prefix, cursor: call.cursor, limit: call.limit)
      withItems(records) { items in (cursor ?? []).withUnsafeBufferPointer { call.page(items, cursor: $0) } }
    } catch {
      call.fail(error)
    }
  }

  public func query(_ call: QueryCall) {
    guard let (records, total) = store.query(prefix: call.prefix, offset: call.offset, limit: call.limit) else {
      return call.notCheaper()
    }
    withItems(records) { call.page($0, total: total) }
  }

  /// The records as a page's items. No lock is held: the references keep the bytes.
  private func withItems(_ records: [RecordBlock], _ body: (UnsafeBufferPointer<bp_scan_item>) -> Void) {
    withExtendedLifetime(records) {
      withUnsafeTemporaryAllocation(of: bp_scan_item.self, capacity: records.count) { items in
        for (index, record) in records.enumerated() {
          items.initializeElement(
            at: index,
            to: bp_scan_item(
              uri: bp_view(record.key), ts_ms: record.header.timestampMs, version: record.header.version,
              size_bytes: UInt64(record.header.dataCount), content: record.header.content, reserved: 0))
        }
        body(UnsafeBufferPointer(items))
      }
    }
  }

  // MARK: State

  /// Of the format in StateFrame.
  public static var stateVersion: UInt32 { 1 }

  public func exportState(_ phase: StatePhase, to writer: StateWriter) async throws {
    try await store.exportState(phase, to: writer)
  }

  public func importState(_ phase: StatePhase, from reader: StateReader) async throws {
    var importing = StoreImport(store, phase)
    while let bytes = try await reader.next() { try importing.take(bytes) }
    try importing.finish()
  }

  public func abandonState() { store.abandonState() }

  public func selfTest(scratchDirectory: String) async throws {
    let store = RecordStore(limits: RecordStore.Limits())
    try SelfTestStore(
      apply: { store.apply($0) },
      read: { uri in
        uri.withView { store.find($0.bytes) }.map {
          Record(
            data: Array($0.data), content: Content(rawValue: $0.header.content) ?? .bytes,
            timestampMs: $0.header.timestampMs, version: $0.header.version)
        }
      },
      scan: { prefix in
        try prefix.withView { view throws(Failure) in
          try store.page(prefix: view.bytes, cursor: BorrowedBytes(start: nil, count: 0), limit: 100).0
            .map { String(decoding: $0.key, as: UTF8.self) }
        }
      }
    ).run()
  }
}
