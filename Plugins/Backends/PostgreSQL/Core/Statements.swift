import PluginAPI

/// The statements that serve, for one table. The layout is documented in docs/postgresql.md.
struct Statements: Sendable {
  let table: String
  /// The URI in the order of its bytes, as an index has it: `t.uri`, or `t.uri COLLATE "C"`.
  let order: String

  init(prefix: String, order: String = "t.uri") {
    table = "\(prefix)_data"
    self.order = order
  }

  /// The original in our columns is what the row says, as long as nobody has written the row since: then the peer's
  /// column `updated_at` is the one that was noted with it. Both are the start of the transaction that wrote the row.
  private static let isOurs = "t.backplane_updated_at = t.updated_at"

  /// A row of the peer's gets a version from when it was written, in the way of the kernel's.
  private static let version = """
    CASE WHEN \(isOurs) THEN t.backplane_version ELSE t."timestamp" << 20
    | (coalesce(extract(microseconds FROM t.updated_at), 0)::bigint & 1048575) END
    """

  /// The peer's way to say bytes.
  private static let isMarker = """
    (t.data->'__b3nd_binary__' = 'true'::jsonb AND jsonb_typeof(t.data->'data') = 'string')
    """

  // MARK: Writing

  private static let columns = """
    uri, data, "timestamp", updated_at, backplane_data, backplane_content, backplane_version, backplane_updated_at,
    backplane_uri
    """

  private static let data = """
    CASE $4::smallint WHEN 0 THEN convert_from($3, 'UTF8')::jsonb
    WHEN 1 THEN jsonb_build_object('__b3nd_binary__', true, 'data', translate(encode($3, 'base64'), E'\\n', ''))
    ELSE convert_from($7, 'UTF8')::jsonb END
    """

  private static let values = """
    $1, \(data), $2, LOCALTIMESTAMP, $3, CASE $4::smallint WHEN 1 THEN 1 ELSE 0 END, $5, LOCALTIMESTAMP, $6
    """

  /// uri, time, original, `PeerValue.Form`, version, long URI, value for the peer.
  private static let putTypes = [
    PreparedStatement.Kind.text, PreparedStatement.Kind.bigint, PreparedStatement.Kind.bytea,
    PreparedStatement.Kind.smallint, PreparedStatement.Kind.bigint, PreparedStatement.Kind.text,
    PreparedStatement.Kind.bytea,
  ]

  var begin: PreparedStatement { PreparedStatement(name: "begin", sql: "BEGIN", types: []) }
  var commit: PreparedStatement { PreparedStatement(name: "commit", sql: "COMMIT", types: []) }
  var rollback: PreparedStatement { PreparedStatement(name: "rollback", sql: "ROLLBACK", types: []) }

  var put: PreparedStatement {
    PreparedStatement(
      name: "put",
      sql: """
        INSERT INTO \(table) AS t (\(Self.columns)) VALUES (\(Self.values)) ON CONFLICT (uri) DO UPDATE SET
        data = excluded.data, "timestamp" = excluded."timestamp", updated_at = excluded.updated_at,
        backplane_data = excluded.backplane_data, backplane_content = excluded.backplane_content,
        backplane_version = excluded.backplane_version, backplane_updated_at = excluded.backplane_updated_at,
        backplane_uri = excluded.backplane_uri
        """, types: Self.putTypes)
  }

  var putIfAbsent: PreparedStatement {
    PreparedStatement(
      name: "put_absent",
      sql: "INSERT INTO \(table) (\(Self.columns)) VALUES (\(Self.values)) ON CONFLICT (uri) DO NOTHING",
      types: Self.putTypes)
  }

  private var update: String {
    "UPDATE \(table) AS t SET (\(Self.columns)) = (SELECT \(Self.values)) WHERE t.uri = $1"
  }

  var putIfPresent: PreparedStatement {
    PreparedStatement(name: "put_present", sql: update, types: Self.putTypes)
  }

  var putIfVersion: PreparedStatement {
    PreparedStatement(
      name: "put_version", sql: "\(update) AND \(Self.version) = $8",
      types: Self.putTypes + [PreparedStatement.Kind.bigint])
  }

  var delete: PreparedStatement {
    PreparedStatement(
      name: "delete", sql: "DELETE FROM \(table) AS t WHERE t.uri = $1", types: [PreparedStatement.Kind.text])
  }

  var deleteIfVersion: PreparedStatement {
    PreparedStatement(
      name: "delete_version", sql: "DELETE FROM \(table) AS t WHERE t.uri = $1 AND \(Self.version) = $2",
      types: [PreparedStatement.Kind.text, PreparedStatement.Kind.bigint])
  }

  var find: PreparedStatement {
    PreparedStatement(
      name: "find", sql: "SELECT 1 FROM \(table) AS t WHERE t.uri = $1", types: [PreparedStatement.Kind.text])
  }

  /// Keys and versions of the records that are there, which stay as they are until the transaction ends.
  var lock: PreparedStatement {
    PreparedStatement(
      name: "lock",
      sql: "SELECT t.uri, \(Self.version) FROM \(table) AS t WHERE t.uri = ANY($1) ORDER BY t.uri FOR UPDATE",
      types: [PreparedStatement.Kind.textArray])
  }

  /// Keys and versions as they are.
  var versions: PreparedStatement {
    PreparedStatement(
      name: "versions", sql: "SELECT t.uri, \(Self.version) FROM \(table) AS t WHERE t.uri = ANY($1)",
      types: [PreparedStatement.Kind.textArray])
  }

  var ofWriter: [PreparedStatement] {
    [
      begin, commit, rollback, put, putIfAbsent, putIfPresent, putIfVersion, delete, deleteIfVersion, find, lock,
      versions,
    ]
  }

  // MARK: Reading

  /// What a row's payload is.
  enum Payload {
    static let json: UInt64 = 0
    static let bytes: UInt64 = 1
    /// The base64 text of a marker of the peer's.
    static let base64: UInt64 = 2
  }

  private static let head = """
    t."timestamp", \(version), CASE WHEN \(isOurs) THEN t.backplane_content
    WHEN \(isMarker) THEN 2::smallint ELSE 0::smallint END
    """

  private static let payload = """
    CASE WHEN \(isOurs) THEN t.backplane_data WHEN \(isMarker) THEN convert_to(t.data->>'data', 'UTF8')
    ELSE convert_to(t.data::text, 'UTF8') END
    """

  var get: PreparedStatement {
    PreparedStatement(
      name: "get", sql: "SELECT 1::bigint, \(Self.head), \(Self.payload) FROM \(table) AS t WHERE t.uri = $1",
      types: [PreparedStatement.Kind.text])
  }

  /// Several at once; the first column is the place in the list, from 1.
  var gets: PreparedStatement {
    PreparedStatement(
      name: "gets",
      sql: """
        SELECT k.place, \(Self.head), \(Self.payload) FROM unnest($1) WITH ORDINALITY AS k(uri, place)
        JOIN \(table) AS t ON t.uri = k.uri
        """, types: [PreparedStatement.Kind.textArray])
  }

  var heads: PreparedStatement {
    PreparedStatement(
      name: "heads",
      sql: """
        SELECT k.place, \(Self.head) FROM unnest($1) WITH ORDINALITY AS k(uri, place)
        JOIN \(table) AS t ON t.uri = k.uri
        """, types: [PreparedStatement.Kind.textArray])
  }

  var ofReader: [PreparedStatement] { [get, gets, heads] }

  // MARK: Scanning

  /// Key, URI, then as above, then the size that a read will give.
  private static let item = """
    t.uri, t.backplane_uri, t."timestamp", \(version), CASE WHEN \(isOurs) THEN t.backplane_content
    WHEN \(isMarker) THEN 1::smallint ELSE 0::smallint END,
    CASE WHEN \(isOurs) THEN octet_length(t.backplane_data)
    WHEN \(isMarker) THEN octet_length(rtrim(t.data->>'data', '=')) * 3 / 4 ELSE octet_length(t.data::text) END::bigint
    """

  /// From, after, to, how many. Both bounds of the beginning are needed: the first page begins with the prefix itself,
  /// the next ones behind the last key.
  var page: PreparedStatement {
    PreparedStatement(
      name: "page",
      sql: """
        SELECT \(Self.item) FROM \(table) AS t WHERE \(order) >= $1 AND \(order) > $2 AND \(order) < $3
        ORDER BY \(order) LIMIT $4
        """,
      types: [
        PreparedStatement.Kind.text, PreparedStatement.Kind.text, PreparedStatement.Kind.text,
        PreparedStatement.Kind.bigint,
      ])
  }

  /// The same for a prefix that is longer than what keys and URIs share.
  var pageOfLongPrefix: PreparedStatement {
    PreparedStatement(
      name: "page_long",
      sql: """
        SELECT \(Self.item) FROM \(table) AS t WHERE \(order) >= $1 AND \(order) > $2 AND \(order) < $3
        AND starts_with(coalesce(t.backplane_uri, t.uri), $5) ORDER BY \(order) LIMIT $4
        """,
      types: [
        PreparedStatement.Kind.text, PreparedStatement.Kind.text, PreparedStatement.Kind.text,
        PreparedStatement.Kind.bigint, PreparedStatement.Kind.text,
      ])
  }

  var ofScanner: [PreparedStatement] { [page, pageOfLongPrefix] }
}
