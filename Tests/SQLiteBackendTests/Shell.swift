import BackendTesting
import Testing

extension Shell {
  /// Changes a database from outside, as an operator would.
  static func sqlite(_ path: String, _ sql: String) throws -> String {
    try #require(try output("sqlite3", [path, sql]), "sqlite3 could not run: \(sql)")
  }
}
