import Glibc
import MemoryBackend
import PluginAPI
import PluginTestHost

/// What handing the memory backend's records over costs: a million records of 200 bytes, from one instance to another,
/// and what the writes notice that go on meanwhile.
enum Handover {
  private static let recordsCount = 1_000_000
  private static let changesCount = 100_000
  private static let unitOps = 1_000
  private static let data = Array((#"{"text":""# + String(repeating: "x", count: 189) + #""}"#).utf8)

  private static let entry = PluginEntry(MemoryBackend.self, id: "org.backplane.memory", version: "0.1.0") {
    MemoryBackend.create($0, $1, $2)
  }

  private static func started() async throws -> TestHost {
    let host = try TestHost(entry: entry.pointer, configuration: #"{"size_bytes_max":0}"#)
    try await host.start()
    return host
  }

  private static func put(_ host: TestHost, _ count: Int, version: UInt64) async throws {
    for start in stride(from: 0, to: count, by: unitOps) {
      let ops = (start..<(start + unitOps)).map { Op.put("mutable://open/bench/\($0 % 1_000)/record-\($0)", data) }
      try await host.apply(ops, version: version)
    }
  }

  private static func timed<R>(_ name: String, _ count: Int, _ body: () async throws -> R) async throws -> R {
    let start = nowNs()
    let result = try await body()
    let seconds = (nowNs() - start) / 1e9
    say("handover \(name)", Double(count) / seconds, "records/s")
    say("  took", seconds * 1e3, "ms")
    return result
  }

  /// Exports a snapshot and throws it away: without the memory that keeping it costs.
  private static func discard(_ host: TestHost) async throws {
    let table = host.extensionTable("backplane.state/1", as: bp_state.self)!
    let export = try host.stream(
      bp_result.self, credits: 8,
      submit: { arena, call, token in
        let request = arena.make(
          bp_state_export(size: .size(of: bp_state_export.self), phase: BP_STATE_SNAPSHOT, credits: 8, reserved: 0))
        table.pointee.export_state(host.pluginSelf, call, request, token)
      }, chunk: { Int($0.pointee.bytes.size) }, read: { $0.failure })
    for await _ in export.chunks { export.grant(1) }
    if let failure = await export.value { throw failure }
  }

  static func run() async throws {
    let old = try await started()
    try await put(old, recordsCount, version: 1)
    for _ in 0..<3 { try await timed("export", recordsCount) { try await discard(old) } }
    let snapshot = try await old.exportState(.snapshot, credits: 8)
    say("  bytes for each record", Double(snapshot.reduce(0) { $0 + $1.count }) / Double(recordsCount), "bytes")
    try await put(old, changesCount, version: 2)
    let rest = try await timed("export of the rest", changesCount) { try await old.exportState(.rest, credits: 8) }
    let new = try await started()
    try await timed("import", recordsCount) { try await new.importState(snapshot, .snapshot) }
    try await timed("import of the rest", changesCount) { try await new.importState(rest, .rest) }
    let newer = try await started()
    try await timed("both at once", recordsCount) { try await new.moveState(.snapshot, to: newer, credits: 8) }
    try await writes(old)
  }

  /// How long single writes take while a snapshot is exported, and while none is.
  private static func writes(_ host: TestHost) async throws {
    for isExporting in [false, true] {
      let export = isExporting ? Task { for _ in 0..<3 { try await discard(host) } } : nil
      var times: [Double] = []
      let end = nowNs() + 300e6
      while nowNs() < end {
        let start = nowNs()
        _ = try host.beginApply([.put("mutable://open/bench/1/record-1", data)], version: 3)
        times.append(nowNs() - start)
      }
      _ = try await export?.value
      times.sort()
      let name = isExporting ? "write during an export" : "write"
      say("handover \(name), p50", times[times.count / 2], "ns")
      say("  p99", times[times.count * 99 / 100], "ns")
      say("  p99.9", times[times.count * 999 / 1000], "ns")
      say("  longest", times.last!, "ns")
    }
  }
}
