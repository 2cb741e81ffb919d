import PluginAPI

/// The keys of a slot with the PostgreSQL backend. Documented in docs/postgresql.md.
public struct PostgreSQLConfiguration: Decodable, Sendable {
  /// `postgresql://…` or `postgres://…`, as libpq reads it.
  var url: String?
  /// Default `b3nd`.
  var tablePrefix: String?
  /// 3 to 100; default 5.
  var connectionsMax: Int?
  /// 100 to 600,000; default 10,000.
  var connectTimeoutMs: Int?
  /// 100 to 3,600,000; default 30,000.
  var statementTimeoutMs: Int?
  /// 0 to 600,000; default 5,000.
  var outageWaitMs: Int?
  /// 1 to 100,000; default 512.
  var batchUnitsMax: Int?
  /// 64 KiB to 1 GiB; default 16 MiB.
  var batchSizeBytesMax: Int?
  /// 1 to 1,000,000; default 16,384.
  var queueUnitsMax: Int?
  /// 1 to 1,000,000; default 16,384.
  var queueReadsMax: Int?

  enum CodingKeys: String, CodingKey {
    case url
    case tablePrefix = "table_prefix"
    case connectionsMax = "connections_max"
    case connectTimeoutMs = "connect_timeout_ms"
    case statementTimeoutMs = "statement_timeout_ms"
    case outageWaitMs = "outage_wait_ms"
    case batchUnitsMax = "batch_units_max"
    case batchSizeBytesMax = "batch_size_bytes_max"
    case queueUnitsMax = "queue_units_max"
    case queueReadsMax = "queue_reads_max"
  }
}

/// The same, checked, with nothing left to decide.
struct PostgreSQLSettings: Sendable {
  var url: ConnectionURL
  var tablePrefix = "b3nd"
  var connectionsMax = 5
  var connectTimeoutMs = 10_000
  var statementTimeoutMs = 30_000
  var outageWaitMs = 5_000
  var batchUnitsMax = 512
  var batchSizeBytesMax = 16 << 20
  var queueUnitsMax = 16_384
  var queueReadsMax = 16_384

  /// One connection writes; of the others every second one serves scans.
  var readersCount: Int { connectionsMax / 2 }
  var scannersCount: Int { connectionsMax - 1 - readersCount }

  /// Checks syntax and ranges; connects to nothing. Throws `ConfigurationErrors` with everything that is wrong.
  init(_ configuration: PostgreSQLConfiguration) throws {
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
    switch ConnectionURL.parse(configuration.url ?? "") {
    case .success(let parsed): url = parsed
    case .failure(let problem):
      url = ConnectionURL()
      problems.append(problem)
    }
    if let prefix = configuration.tablePrefix {
      if let problem = Self.problem(prefix: prefix) {
        problems.append(ConfigurationProblem(pointer: "/table_prefix", message: problem))
      }
      // As PostgreSQL folds a name without quotes, which is how the peer writes it.
      tablePrefix = prefix.lowercased()
    }
    connectionsMax = ranged("connections_max", configuration.connectionsMax, 3...100, connectionsMax)
    connectTimeoutMs = ranged("connect_timeout_ms", configuration.connectTimeoutMs, 100...600_000, connectTimeoutMs)
    statementTimeoutMs = ranged(
      "statement_timeout_ms", configuration.statementTimeoutMs, 100...3_600_000, statementTimeoutMs)
    outageWaitMs = ranged("outage_wait_ms", configuration.outageWaitMs, 0...600_000, outageWaitMs)
    batchUnitsMax = ranged("batch_units_max", configuration.batchUnitsMax, 1...100_000, batchUnitsMax)
    batchSizeBytesMax = ranged(
      "batch_size_bytes_max", configuration.batchSizeBytesMax, 65_536...(1 << 30), batchSizeBytesMax)
    queueUnitsMax = ranged("queue_units_max", configuration.queueUnitsMax, 1...1_000_000, queueUnitsMax)
    queueReadsMax = ranged("queue_reads_max", configuration.queueReadsMax, 1...1_000_000, queueReadsMax)
    if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
  }

  /// The longest name that is made of the prefix has 25 characters more (`update_…_updated_at_column`), and PostgreSQL
  /// cuts names after 63 bytes.
  static let prefixSizeMax = 38

  private static func problem(prefix: String) -> String? {
    let bytes = Array(prefix.utf8)
    let isLetter = { (byte: UInt8) in (0x61...0x7a).contains(byte | 0x20) }
    let isWordByte = { (byte: UInt8) in isLetter(byte) || (0x30...0x39).contains(byte) || byte == 0x5f }
    guard let first = bytes.first, isLetter(first), bytes.allSatisfy(isWordByte) else {
      return "table_prefix must be a letter followed by letters, digits and _ (ASCII); it becomes part of table names"
    }
    if bytes.count > prefixSizeMax {
      return "table_prefix has \(bytes.count) characters; PostgreSQL's names leave room for \(prefixSizeMax)"
    }
    return nil
  }
}
