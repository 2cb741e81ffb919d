import PluginAPI

/// The keys of a slot with the MongoDB backend. Documented in docs/mongodb.md.
public struct MongoDBConfiguration: Decodable, Sendable {
  /// `mongodb://` or `mongodb+srv://`, with the database in the path.
  var url: String
  /// 1 to 10,000; default 1,024.
  var batchUnitsMax: Int?
  /// 1 to 1,000,000; default 16,384.
  var queueUnitsMax: Int?
  /// 1 to 64; default 4.
  var readers: Int?
  /// 1 to 1,000,000; default 16,384.
  var queueReadsMax: Int?
  /// 100 to 600,000; default 10,000.
  var callTimeoutMs: Int?

  enum CodingKeys: String, CodingKey {
    case url
    case batchUnitsMax = "batch_units_max"
    case queueUnitsMax = "queue_units_max"
    case readers
    case queueReadsMax = "queue_reads_max"
    case callTimeoutMs = "call_timeout_ms"
  }
}

/// The same, checked, with nothing left to decide.
struct MongoDBSettings: Sendable {
  var connection: ConnectionString
  var batchUnitsMax = 1_024
  var queueUnitsMax = 16_384
  var readers = 4
  var queueReadsMax = 16_384
  var callTimeoutMs = 10_000

  /// Checks syntax and ranges; opens nothing. Throws `ConfigurationErrors` with everything that is wrong.
  init(_ configuration: MongoDBConfiguration) throws {
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
    batchUnitsMax = ranged("batch_units_max", configuration.batchUnitsMax, 1...10_000, batchUnitsMax)
    queueUnitsMax = ranged("queue_units_max", configuration.queueUnitsMax, 1...1_000_000, queueUnitsMax)
    readers = ranged("readers", configuration.readers, 1...64, readers)
    queueReadsMax = ranged("queue_reads_max", configuration.queueReadsMax, 1...1_000_000, queueReadsMax)
    callTimeoutMs = ranged("call_timeout_ms", configuration.callTimeoutMs, 100...600_000, callTimeoutMs)
    do {
      connection = try ConnectionString(configuration.url, callTimeoutMs: callTimeoutMs)
      if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
    } catch let found as ConfigurationErrors where found.problems != problems {
      throw ConfigurationErrors(problems: problems + found.problems)
    }
  }
}
