/// A backend, the easy way: async methods on values. Thrown errors reach the caller as `Failure`.
public protocol Backend: Plugin {
  /// What an acknowledgement means.
  static var durability: Durability { get }

  /// Applies a unit: all of its ops or none. Check each op's condition against the record as earlier ops of the unit
  /// left it, and throw `PreconditionFailed` when one does not hold.
  func apply(_ unit: WriteUnit) async throws -> Applied

  /// The record at a URI, or nil.
  func read(_ uri: String) async throws -> Record?

  /// At most `limit` records whose URI begins with `prefix`, in one stable order, after `cursor` (nil: from the
  /// beginning).
  func scan(prefix: String, after cursor: [UInt8]?, limit: Int) async throws -> ScanPage
}

extension Backend {
  public static var durability: Durability { .memory }
}

/// What applying a unit came to.
public struct Applied: Sendable {
  /// How many `delete` ops found no record.
  public var absentCount: Int
  public init(absentCount: Int = 0) { self.absentCount = absentCount }
}

/// An op's condition did not hold; nothing of the unit was applied.
public struct PreconditionFailed: Error, Sendable {
  /// The index of the op in its unit.
  public var op: Int
  public init(op: Int) { self.op = op }
}

/// One page of a scan.
public struct ScanPage: Sendable {
  public struct Item: Sendable {
    public var uri: String
    public var timestampMs: UInt64
    public var version: UInt64
    public var sizeBytes: Int
    public var content: Content

    public init(_ uri: String, _ record: Record) {
      self.uri = uri
      timestampMs = record.timestampMs
      version = record.version
      sizeBytes = record.data.count
      content = record.content
    }
  }

  public var items: [Item]
  /// Where the next page begins; nil: this was the last.
  public var cursor: [UInt8]?

  public init(_ items: [Item], cursor: [UInt8]? = nil) {
    self.items = items
    self.cursor = cursor
  }

  /// A page of records kept sorted by URI: those after `cursor`, which is the last URI of the page before.
  public static func sorted(
    _ records: some Sequence<(key: String, value: Record)>, prefix: String, after cursor: [UInt8]?, limit: Int
  ) -> ScanPage {
    let after = cursor.map { String(decoding: $0, as: UTF8.self) }
    let items = records.filter { $0.key.hasPrefix(prefix) && (after == nil || $0.key > after!) }
      .sorted { $0.key < $1.key }
    let page = items.prefix(limit).map { Item($0.key, $0.value) }
    return ScanPage(page, cursor: items.count > limit ? page.last.map { Array($0.uri.utf8) } : nil)
  }
}
