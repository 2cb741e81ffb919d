import PluginAPI

/// The statements that serve, for one table. The layout is documented in docs/postgresql.md.
final class Statements: Sendable {
  let begin = PreparedStatement(name: "begin", sql: "BEGIN")
  let commit = PreparedStatement(name: "commit", sql: "COMMIT")
  let rollback = PreparedStatement(name: "rollback", sql: "ROLLBACK")
  let put: PreparedStatement
  let putIfAbsent: PreparedStatement
  let putIfPresent: PreparedStatement
  let putIfVersion: PreparedStatement
  let delete: PreparedStatement
  let deleteIfVersion: PreparedStatement
  let find: PreparedStatement
  /// Keys and versions of the records that are there, which stay as they are until the transaction ends.
  let lock: PreparedStatement
  /// Keys and versions as they are.
  let versions: PreparedStatement

  let get: PreparedStatement
  /// Several at once; the first column is the place in the list, from 1.
  let gets: PreparedStatement
  /// The same without data.
  let heads: PreparedStatement

  /// From, after, to, how many. Both lower bounds are needed: the first page begins with the prefix itself, the next ones
  /// behind the last key.
  let page: PreparedStatement
  /// The same for a prefix that is longer than what keys and URIs share.
  let pageOfLongPrefix: PreparedStatement

  /// From, to, how many: records number offset and the following ones.
  let middle: PreparedStatement
  /// From, to.
  let total: PreparedStatement

  /// `order`: the URI in the order of its bytes, as an index has it.
  init(prefix: String, order: String = "t.uri") {
    typealias Kind = PreparedStatement.Kind
    typealias Parts = StatementParts
    let table = "\(prefix)_data"
    let insert = "INSERT INTO \(table) AS t (\(Parts.columns)) VALUES (\(Parts.values)) ON CONFLICT (uri)"
    put = PreparedStatement(
      name: "put",
      sql: """
        \(insert) DO UPDATE SET
        data = excluded.data, "timestamp" = excluded."timestamp", updated_at = excluded.updated_at,
        backplane_data = excluded.backplane_data, backplane_content = excluded.backplane_content,
        backplane_version = excluded.backplane_version, backplane_updated_at = excluded.backplane_updated_at,
        backplane_uri = excluded.backplane_uri
        """, types: Parts.putTypes)
    putIfAbsent = PreparedStatement(name: "put_absent", sql: "\(insert) DO NOTHING", types: Parts.putTypes)
    let update = "UPDATE \(table) AS t SET (\(Parts.columns)) = (SELECT \(Parts.values)) WHERE t.uri = $1"
    putIfPresent = PreparedStatement(name: "put_present", sql: update, types: Parts.putTypes)
    putIfVersion = PreparedStatement(
      name: "put_version", sql: "\(update) AND \(Parts.version) = $8", types: Parts.putTypes + [Kind.bigint])
    let deletion = "DELETE FROM \(table) AS t WHERE t.uri = $1"
    delete = PreparedStatement(name: "delete", sql: deletion, types: [Kind.text])
    deleteIfVersion = PreparedStatement(
      name: "delete_version", sql: "\(deletion) AND \(Parts.version) = $2", types: [Kind.text, Kind.bigint])
    find = PreparedStatement(name: "find", sql: "SELECT 1 FROM \(table) AS t WHERE t.uri = $1", types: [Kind.text])
    let look = "SELECT t.uri, \(Parts.version) FROM \(table) AS t WHERE t.uri = ANY($1)"
    // In one order, so that two writers do not wait for each other.
    lock = PreparedStatement(name: "lock", sql: "\(look) ORDER BY t.uri FOR UPDATE", types: [Kind.textArray])
    versions = PreparedStatement(name: "versions", sql: look, types: [Kind.textArray])

    get = PreparedStatement(
      name: "get", sql: "SELECT 1::bigint, \(Parts.head), \(Parts.payload) FROM \(table) AS t WHERE t.uri = $1",
      types: [Kind.text])
    let list = "FROM unnest($1) WITH ORDINALITY AS k(uri, place) JOIN \(table) AS t ON t.uri = k.uri"
    gets = PreparedStatement(
      name: "gets", sql: "SELECT k.place, \(Parts.head), \(Parts.payload) \(list)", types: [Kind.textArray])
    heads = PreparedStatement(name: "heads", sql: "SELECT k.place, \(Parts.head) \(list)", types: [Kind.textArray])

    let within = "FROM \(table) AS t WHERE \(order) >= $1 AND"
    let range = "SELECT \(Parts.item) \(within) \(order) > $2 AND \(order) < $3"
    page = PreparedStatement(
      name: "page", sql: "\(range) ORDER BY \(order) LIMIT $4", types: [Kind.text, Kind.text, Kind.text, Kind.bigint])
    pageOfLongPrefix = PreparedStatement(
      name: "page_long",
      sql: "\(range) AND starts_with(coalesce(t.backplane_uri, t.uri), $5) ORDER BY \(order) LIMIT $4",
      types: [Kind.text, Kind.text, Kind.text, Kind.bigint, Kind.text])
    // What is passed over is only looked up in the index.
    let keys = "SELECT t.uri \(within) \(order) < $2 ORDER BY \(order) LIMIT $3 OFFSET $4"
    middle = PreparedStatement(
      name: "middle",
      sql: "SELECT \(Parts.item) FROM (\(keys)) AS k JOIN \(table) AS t ON t.uri = k.uri ORDER BY \(order)",
      types: [Kind.text, Kind.text, Kind.bigint, Kind.bigint])
    total = PreparedStatement(
      name: "total", sql: "SELECT count(*) \(within) \(order) < $2", types: [Kind.text, Kind.text])
  }

  var ofWriter: [PreparedStatement] {
    [
      begin, commit, rollback, put, putIfAbsent, putIfPresent, putIfVersion, delete, deleteIfVersion, find, lock,
      versions,
    ]
  }
  var ofReader: [PreparedStatement] { [get, gets, heads] }
  var ofScanner: [PreparedStatement] { [page, pageOfLongPrefix, middle, total] }
}
