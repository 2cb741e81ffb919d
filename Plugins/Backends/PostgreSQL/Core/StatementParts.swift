/// What the statements are made of. `t` is the table.
enum StatementParts {
  /// The original in our columns is what the row says, as long as nobody has written the row since: then the peer's
  /// column `updated_at` is the one that was noted with it. Both are the start of the transaction that wrote the row.
  static let isOurs = "t.backplane_updated_at = t.updated_at"

  /// A row of the peer's gets a version from when it was written, in the way of the kernel's.
  static let version = """
    CASE WHEN \(isOurs) THEN t.backplane_version ELSE t."timestamp" << 20
    | (coalesce(extract(microseconds FROM t.updated_at), 0)::bigint & 1048575) END
    """

  /// The peer's way to say bytes.
  static let isMarker = """
    (t.data->'__b3nd_binary__' = 'true'::jsonb AND jsonb_typeof(t.data->'data') = 'string')
    """

  static let columns = """
    uri, data, "timestamp", updated_at, backplane_data, backplane_content, backplane_version, backplane_updated_at,
    backplane_uri
    """

  private static let data = """
    CASE $4::smallint WHEN 0 THEN convert_from($3, 'UTF8')::jsonb
    WHEN 1 THEN jsonb_build_object('__b3nd_binary__', true, 'data', translate(encode($3, 'base64'), E'\\n', ''))
    ELSE convert_from($7, 'UTF8')::jsonb END
    """

  static let values = """
    $1, \(data), $2, LOCALTIMESTAMP, $3, CASE $4::smallint WHEN 1 THEN 1 ELSE 0 END, $5, LOCALTIMESTAMP, $6
    """

  /// uri, time, original, `PeerValue.Form`, version, long URI, value for the peer.
  static let putTypes = [
    PreparedStatement.Kind.text, PreparedStatement.Kind.bigint, PreparedStatement.Kind.bytea,
    PreparedStatement.Kind.smallint, PreparedStatement.Kind.bigint, PreparedStatement.Kind.text,
    PreparedStatement.Kind.bytea,
  ]

  /// Time, version, and which `Payload` it is.
  static let head = """
    t."timestamp", \(version), CASE WHEN \(isOurs) THEN t.backplane_content
    WHEN \(isMarker) THEN 2::smallint ELSE 0::smallint END
    """

  static let payload = """
    CASE WHEN \(isOurs) THEN t.backplane_data WHEN \(isMarker) THEN convert_to(t.data->>'data', 'UTF8')
    ELSE convert_to(t.data::text, 'UTF8') END
    """

  /// What a row's payload is.
  enum Payload {
    static let json: UInt64 = 0
    static let bytes: UInt64 = 1
    /// The base64 text of a marker of the peer's.
    static let base64: UInt64 = 2
  }

  /// Key, long URI, time, version, content, then the size that a read will give.
  static let item = """
    t.uri, t.backplane_uri, t."timestamp", \(version), CASE WHEN \(isOurs) THEN t.backplane_content
    WHEN \(isMarker) THEN 1::smallint ELSE 0::smallint END,
    CASE WHEN \(isOurs) THEN octet_length(t.backplane_data)
    WHEN \(isMarker) THEN octet_length(rtrim(t.data->>'data', '=')) * 3 / 4 ELSE octet_length(t.data::text) END::bigint
    """
}
