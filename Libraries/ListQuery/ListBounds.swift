/// How much one list may use. A list that needs more ends with an error that names the bound.
public struct ListBounds: Sendable, Equatable {
  /// Length of one URI in bytes. Not a setting: ICU counts in 32 bits, and a collation key is longer than its text.
  public static let uriBytesMax = 64 << 20

  /// Records held at once: those of the page when nothing is sorted, else up to twice those of the pages before it and
  /// itself, or everything when that is more than this.
  public var sortRecordsMax: Int
  /// Bytes held at once for those records: URIs, collation keys and book-keeping. The memory behind may reach twice
  /// that, since it grows by doubling.
  public var sortBytesMax: Int
  /// Length of the pattern in bytes of UTF-8.
  public var patternBytesMax: Int
  /// Time for all matching of one list, in ms.
  public var patternTime_ms: Int
  /// Steps of the regular-expression engine for one match; one is typically a fraction of a millisecond.
  public var patternStepsMax: Int32
  /// Backtracking stack of the regular-expression engine, in bytes.
  public var patternStackBytesMax: Int32

  public init(
    sortRecordsMax: Int = 1_000_000, sortBytesMax: Int = 256 << 20, patternBytesMax: Int = 4096,
    patternTime_ms: Int = 1000, patternStepsMax: Int32 = 1000, patternStackBytesMax: Int32 = 1 << 20
  ) {
    self.sortRecordsMax = max(sortRecordsMax, 1)
    self.sortBytesMax = max(sortBytesMax, 1)
    self.patternBytesMax = max(patternBytesMax, 1)
    self.patternTime_ms = max(patternTime_ms, 1)
    self.patternStepsMax = max(patternStepsMax, 1)
    self.patternStackBytesMax = max(patternStackBytesMax, 4096)
  }
}

/// Why a list has no answer.
public enum ListError: Error, Equatable, Sendable, CustomStringConvertible {
  case tooManyRecords(sortRecordsMax: Int)
  case tooManyBytes(sortBytesMax: Int)
  case uriTooLong(length: Int)
  case patternTooLong(length: Int, patternBytesMax: Int)
  case patternTooSlow(patternTime_ms: Int, patternStepsMax: Int32)
  case patternNeedsTooMuchStack(patternStackBytesMax: Int32)
  /// ICU itself failed: no data, no memory.
  case engineFailed(String)

  /// The node's setting whose bound was hit; nil when it is none.
  public var settingKey: String? {
    switch self {
    case .tooManyRecords: "limits.list_sort_records_max"
    case .tooManyBytes: "limits.list_sort_size_bytes_max"
    case .patternTooSlow: "limits.list_pattern_time_ms"
    default: nil
    }
  }

  public var description: String {
    switch self {
    case .tooManyRecords(let bound):
      "The list would have to hold more than \(bound) records (limits.list_sort_records_max). Ask for an earlier or "
        + "smaller page, or for a deeper path."
    case .tooManyBytes(let bound):
      "The list would have to hold more than \(bound) bytes (limits.list_sort_size_bytes_max). Ask for an earlier or "
        + "smaller page, or for a deeper path."
    case .uriTooLong(let length):
      "A record's URI is \(length) bytes long; a list takes at most \(ListBounds.uriBytesMax) (uriBytesMax). Delete the "
        + "record, or list another path."
    case .patternTooLong(let length, let bound):
      "The pattern is \(length) bytes long; at most \(bound) (patternBytesMax) are read. Shorten it."
    case .patternTooSlow(let time, let steps):
      "The pattern took more than \(time) ms over all records (limits.list_pattern_time_ms) or \(steps) steps on one "
        + "of them. Use a simpler one, without nested repetition, or a deeper path."
    case .patternNeedsTooMuchStack(let bound):
      "The pattern needs more than \(bound) bytes of stack (patternStackBytesMax). Use a simpler one, without nested "
        + "repetition."
    case .engineFailed(let reason):
      "The ICU library failed: \(reason). Look for its data files and for free memory."
    }
  }
}
