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
    var problems: [ConfigurationProblem] = []
    func ranged(_ key: String, _ value: Int?, _ range: ClosedRange<Int>, _ defaultValue: Int) -> Int {
      guard let value else { return defaultValue }
      if !range.contains(value) {
        problems.append(
          ConfigurationProblem(
            pointer: "/\(key)", message: "\(key) is \(value); give \(range.lowerBound) to \(range.upperBound)"))
      }
      return value
    }
    switch Self.path(url: configuration.url ?? "sqlite://", stateDirectory: stateDirectory) {
    case .success(let found): path = found
    case .failure(let problem):
      path = ""
      problems.append(problem)
    }
    durability = configuration.durability == .os ? .os : .disk
    busyTimeoutMs = ranged("busy_timeout_ms", configuration.busyTimeoutMs, 0...600_000, busyTimeoutMs)
    cacheSizeBytes = ranged("cache_size_bytes", configuration.cacheSizeBytes, 65_536...(16 << 30), cacheSizeBytes)
    batchUnitsMax = ranged("batch_units_max", configuration.batchUnitsMax, 1...100_000, batchUnitsMax)
    queueUnitsMax = ranged("queue_units_max", configuration.queueUnitsMax, 1...1_000_000, queueUnitsMax)
    readers = ranged("readers", configuration.readers, 1...64, readers)
    if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
  }

  /// `sqlite://` is records.sqlite3 in the state directory, `sqlite://a/b.db` a path below it, `sqlite:///a/b.db` an
  /// absolute path. `%` escapes are resolved; a query or fragment is refused, because nothing would heed it.
  static func path(url: String, stateDirectory: String) -> Result<String, ConfigurationProblem> {
    func problem(_ message: String) -> Result<String, ConfigurationProblem> {
      .failure(ConfigurationProblem(pointer: "/url", message: message))
    }
    let scheme = "sqlite://"
    guard url.hasPrefix(scheme) else {
      return problem("the url of the SQLite backend begins with sqlite://; write sqlite:///absolute/path.db")
    }
    let written = url.utf8.dropFirst(scheme.utf8.count)
    if written.contains(where: { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") }) {
      return problem(
        "the url has a ? or #, which sqlite:// does not know; settings are keys of the slot, and % escapes such characters"
      )
    }
    guard let bytes = resolvingEscapes(written) else {
      return problem("the url has a % that is not followed by two hexadecimal digits; write %25 for a % in a file name")
    }
    if bytes.contains(0) { return problem("the url has a %00, which no file name can have") }
    let text = String(decoding: bytes, as: UTF8.self)
    if text.utf8.last == UInt8(ascii: "/") {
      return problem("the url names a directory; write the file's name after it")
    }
    if text.hasPrefix("/") { return .success(text) }
    if text.split(separator: "/").contains("..") {
      return problem("the url leaves the state directory by ..; write an absolute path, sqlite:///absolute/path.db")
    }
    return .success("\(stateDirectory)/\(text.isEmpty ? "records.sqlite3" : text)")
  }

  private static func resolvingEscapes(_ text: Substring.UTF8View) -> [UInt8]? {
    func digit(_ byte: UInt8) -> UInt8? {
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
      default: nil
      }
    }
    var bytes: [UInt8] = []
    var rest = text[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
      bytes.append(high << 4 | low)
    }
    return bytes
  }
}
