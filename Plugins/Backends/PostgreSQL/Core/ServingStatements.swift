/// The SQL that the backend serves with, for whoever measures it against the same statements by hand.
public struct ServingStatements: Sendable {
  /// URI, time, data, 0 for JSON, version, NULL, NULL.
  public let put: String
  /// URI.
  public let get: String
  /// URIs.
  public let gets: String

  /// In a database whose column `uri` is in the order of bytes, as in a table that the backend has made.
  public init(prefix: String) {
    let statements = Statements(prefix: prefix)
    put = statements.put.sql
    get = statements.get.sql
    gets = statements.gets.sql
  }
}
