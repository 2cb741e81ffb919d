import BackendSupport
import PluginAPI

/// The keys of a slot with the files backend. Documented in docs/files.md.
public struct FilesConfiguration: Decodable, Sendable {
  enum DurabilityKey: String, Decodable, Sendable {
    case os
    case disk
  }

  enum ReadersKey: String, Decodable, Sendable {
    case owner
    case group
    case everyone
  }

  var url: String?
  var durability: DurabilityKey?
  var readableBy: ReadersKey?
  /// 1 to 100,000; default 1,024.
  var batchUnitsMax: Int?
  /// 1 to 1,000,000; default 16,384.
  var queueUnitsMax: Int?
  /// 1 KiB to 1 TiB; default 1 GiB.
  var recordSizeBytesMax: Int?
  /// 64 KiB to 16 GiB; default 16 MiB.
  var logSizeBytesMax: Int?
  /// 64 KiB to 4 GiB; default 64 MiB.
  var scanCacheSizeBytesMax: Int?

  enum CodingKeys: String, CodingKey {
    case url
    case durability
    case readableBy = "readable_by"
    case batchUnitsMax = "batch_units_max"
    case queueUnitsMax = "queue_units_max"
    case recordSizeBytesMax = "record_size_bytes_max"
    case logSizeBytesMax = "log_size_bytes_max"
    case scanCacheSizeBytesMax = "scan_cache_size_bytes_max"
  }
}

/// The same, checked, with nothing left to decide.
struct FilesSettings: Sendable {
  /// A scan's cursor is a URI, and backend.h allows a cursor 4 KiB.
  static let uriSizeBytesMax = 4_096

  var path: String
  var durability: Durability = .disk
  var modes = FileModes()
  var batchUnitsMax = 1_024
  var queueUnitsMax = 16_384
  var recordSizeBytesMax = 1 << 30
  var logSizeBytesMax = 16 << 20
  var scanCacheSizeBytesMax = 64 << 20

  init(path: String) { self.path = path }

  /// Checks syntax and ranges; touches no file. Throws `ConfigurationErrors` with everything that is wrong.
  init(_ configuration: FilesConfiguration, stateDirectory: String) throws {
    var checks = SettingsChecks()
    path = Self.path(url: configuration.url ?? "file://", stateDirectory: stateDirectory, &checks)
    durability = configuration.durability == .os ? .os : .disk
    switch configuration.readableBy ?? .owner {
    case .owner: break
    case .group: modes = FileModes(file: 0o640, directory: 0o750)
    case .everyone: modes = FileModes(file: 0o644, directory: 0o755)
    }
    batchUnitsMax = checks.number(
      "batch_units_max", configuration.batchUnitsMax, in: 1...100_000, default: batchUnitsMax)
    queueUnitsMax = checks.number(
      "queue_units_max", configuration.queueUnitsMax, in: 1...1_000_000, default: queueUnitsMax)
    recordSizeBytesMax = checks.number(
      "record_size_bytes_max", configuration.recordSizeBytesMax, in: 1_024...(1 << 40), default: recordSizeBytesMax)
    logSizeBytesMax = checks.number(
      "log_size_bytes_max", configuration.logSizeBytesMax, in: 65_536...(16 << 30), default: logSizeBytesMax)
    scanCacheSizeBytesMax = checks.number(
      "scan_cache_size_bytes_max", configuration.scanCacheSizeBytesMax, in: 65_536...(4 << 30),
      default: scanCacheSizeBytesMax)
    try checks.finish()
  }

  /// `file://` is the directory records in the state directory, `file:///a/b` an absolute path. There is no host: what
  /// follows `file://` is either nothing or a path that begins with a slash.
  private static func path(url: String, stateDirectory: String, _ checks: inout SettingsChecks) -> String {
    let text = checks.path(
      url: url, scheme: "file", backend: "the files backend", example: "file:///absolute/directory")
    guard var text else { return "" }
    if text.isEmpty { return "\(stateDirectory)/records" }
    guard text.hasPrefix("/") else {
      checks.add("url", "the url names a host; files are on this machine, so write file:///absolute/directory")
      return ""
    }
    while text.utf8.last == UInt8(ascii: "/") { text.removeLast() }
    if text.isEmpty { checks.add("url", "the url names the root of the filesystem; write file:///absolute/directory") }
    return text
  }
}
