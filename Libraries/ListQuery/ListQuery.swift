/// What a list asks for, above the scan of a backend: which records, in which order, which page of them.
public struct ListQuery: Sendable, Equatable {
  /// What the records are ordered by.
  public enum SortKey: Sendable, Equatable {
    /// The backend's stable order.
    case none
    /// The whole URI, in the root collation of ICU.
    case name
    /// The record's time, oldest first.
    case timestamp
  }

  /// From 1 on; a smaller one counts as 1.
  public var page: Int
  /// Records per page, from 1 on; a smaller one counts as 1. The caller puts the default in the place of nonsense.
  public var limit: Int
  /// A regular expression, looked for anywhere in the full URI, case-sensitive; nil or empty matches everything.
  ///
  /// The engine is ICU's. It reads a few patterns otherwise than JavaScript does: a literal `{`, `[` inside a class and
  /// `[^]` have to be escaped or written otherwise.
  public var pattern: String?
  public var sortBy: SortKey
  /// Exactly the reverse of the ascending order, records that are equal included.
  public var isDescending: Bool

  public init(
    page: Int = 1, limit: Int = 50, pattern: String? = nil, sortBy: SortKey = .none, isDescending: Bool = false
  ) {
    self.page = max(page, 1)
    self.limit = max(limit, 1)
    self.pattern = pattern
    self.sortBy = sortBy
    self.isDescending = isDescending
  }
}
