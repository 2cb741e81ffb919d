import BackendSupport
import PluginAPI

/// The keys of a slot with the SQLite backend. Documented in docs/sqlite.md.
public struct SQLiteConfiguration: Decodable, Sendable {
  enum DurabilityKey: String, Decodable, Sendable {
    case os
    case disk
  }

  var url: String?
  var durability: DurabilityKey?
  /// 0 to 600,000; default 10,000.
  var busyTimeoutMs: Int?
  /// 64 KiB to 16 GiB for each connection; default 4 MiB.
  var cacheSizeBytes: Int?
  /// 1 to 100,000; default 1,024.
  var batchUnitsMax: Int?
  /// 1 to 1,000,000; default 16,384.
  var queueUnitsMax: Int?
  /// 1 to 64; default 4.
  var readers: Int?

  enum CodingKeys: String, CodingKey {
    case url
    case durability
    case busyTimeoutMs = "busy_timeout_ms"
    case cacheSizeBytes = "cache_size_bytes"
    case batchUnitsMax = "batch_units_max"
    case queueUnitsMax = "queue_units_max"
    case readers
  }
}

/// The same, checked, with nothing left to decide.
struct SQLiteSettings: Sendable {
  var path: String
  var durability: Durability = .disk
  var busyTimeoutMs = 10_000
  var cacheSizeBytes = 4 << 20
  var batchUnitsMax = 1_024
  var queueUnitsMax = 16_384
  var readers = 4

  init(path: String) { self.path = path }

  /// Checks syntax and ranges; touches no file. Throws `ConfigurationErrors` with everything that is wrong.
  init(_ configuration: SQLiteConfiguration, stateDirectory: String) throws {
    var checks = SettingsChecks()
    path = Self.path(url: configuration.url ?? "sqlite://", stateDirectory: stateDirectory, &checks)
    durability = configuration.durability == .os ? .os : .disk
    busyTimeoutMs = checks.number(
      "busy_timeout_ms", configuration.busyTimeoutMs, in: 0...600_000, default: busyTimeoutMs)
    cacheSizeBytes = checks.number(
      "cache_size_bytes", configuration.cacheSizeBytes, in: 65_536...(16 << 30), default: cacheSizeBytes)
    batchUnitsMax = checks.number(
      "batch_units_max", configuration.batchUnitsMax, in: 1...100_000, default: batchUnitsMax)
    queueUnitsMax = checks.number(
      "queue_units_max", configuration.queueUnitsMax, in: 1...1_000_000, default: queueUnitsMax)
    readers = checks.number("readers", configuration.readers, in: 1...64, default: readers)
    try checks.finish()
  }

  /// `sqlite://` is records.sqlite3 in the state directory, `sqlite://a/b.db` a path below it, `sqlite:///a/b.db` an
  /// absolute path.
  private static func path(url: String, stateDirectory: String, _ checks: inout SettingsChecks) -> String {
    let text = checks.path(
      url: url, scheme: "sqlite", backend: "the SQLite backend", example: "sqlite:///absolute/path.db")
    guard let text else { return "" }
    if text.utf8.last == UInt8(ascii: "/") {
      checks.add("url", "the url names a directory; write the file's name after it")
    }
    if text.hasPrefix("/") { return text }
    if text.split(separator: "/").contains("..") {
      checks.add("url", "the url leaves the state directory by ..; write an absolute path, sqlite:///absolute/path.db")
    }
    return "\(stateDirectory)/\(text.isEmpty ? "records.sqlite3" : text)"
  }
}
