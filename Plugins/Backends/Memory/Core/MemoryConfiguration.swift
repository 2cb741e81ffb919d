import PluginAPI

/// The keys of a slot with the memory backend.
public struct MemoryConfiguration: Decodable, Sendable {
  /// `memory://`; nothing may follow.
  var url: String?
  /// Records the backend holds at most; 0: no bound. Default 0.
  var recordsMax: Int?
  /// Bytes the backend holds at most: for each record its data, twice its URI and 256; 0: no bound. Default 1 GiB.
  var sizeBytesMax: Int?

  enum CodingKeys: String, CodingKey {
    case url
    case recordsMax = "records_max"
    case sizeBytesMax = "size_bytes_max"
  }

  static let sizeBytesMaxDefault = 1 << 30

  func limits() throws -> RecordStore.Limits {
    var problems: [ConfigurationProblem] = []
    if let url, url != "memory://" {
      problems.append(
        ConfigurationProblem(
          pointer: "/url",
          message: "the memory backend's url is memory:// and nothing else; bounds have keys of their own"))
    }
    for (key, value) in [("records_max", recordsMax), ("size_bytes_max", sizeBytesMax)] {
      if let value, value < 0 {
        problems.append(
          ConfigurationProblem(
            pointer: "/\(key)", message: "\(key) is \(value); give 0 (no bound) or a positive number"))
      }
    }
    if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
    return RecordStore.Limits(records: recordsMax ?? 0, sizeBytes: sizeBytesMax ?? Self.sizeBytesMaxDefault)
  }
}
