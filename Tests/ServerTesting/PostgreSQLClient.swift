import CPostgreSQL
import Glibc

/// A connection of a test's own, for looking at what a backend has done and for getting in its way. One thread at a time.
public final class PostgreSQLClient {
  private let connection: OpaquePointer

  public init(_ url: String) throws {
    connection = PQconnectdb(url)!
    PQsetNoticeProcessor(connection, { _, _ in }, nil)
    guard PQstatus(connection) == CONNECTION_OK else {
      // deinit closes it all the same.
      throw ServerProblem(String(cString: PQerrorMessage(connection)))
    }
  }

  deinit { PQfinish(connection) }

  /// Runs statements; the rows of the last one, NULL as nil. Values are text.
  @discardableResult
  public func run(_ sql: String) throws -> [[String?]] { try rows(PQexec(connection, sql)) }

  /// Runs one statement with parameters, all of them text.
  @discardableResult
  public func run(_ sql: String, _ values: [String?]) throws -> [[String?]] {
    let texts = values.map { value in value.map { strdup($0)! } }
    defer { for text in texts { free(text) } }
    let pointers = texts.map { $0.map { UnsafePointer($0) } }
    return try rows(PQexecParams(connection, sql, Int32(values.count), nil, pointers, nil, nil, 0))
  }

  /// The first column of the first row.
  public func value(_ sql: String) throws -> String? { try run(sql).first?.first ?? nil }

  private func rows(_ result: OpaquePointer?) throws -> [[String?]] {
    defer { PQclear(result) }
    let status = PQresultStatus(result)
    guard status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK else {
      throw ServerProblem(String(cString: PQerrorMessage(connection)))
    }
    return (0..<PQntuples(result)).map { row in
      (0..<PQnfields(result)).map { column in
        PQgetisnull(result, row, column) == 1 ? nil : String(cString: PQgetvalue(result, row, column))
      }
    }
  }
}
