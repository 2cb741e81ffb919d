import PluginAPI

/// The peer's table and what goes with it, and the columns of ours in it (docs/postgresql.md). Everything is made when it
/// is missing, in one transaction and under a lock, so that it may be done again and by several nodes at once; a database
/// that has all of it is only looked at.
struct Layout {
  let prefix: String

  private var table: String { "\(prefix)_data" }

  /// The database's and the table's state, in one round trip.
  private var question: String {
    """
    SELECT to_regclass('\(table)') IS NOT NULL,
      (SELECT string_agg(a.attname || ' ' || a.atttypid::regtype, ',') FROM pg_attribute a
        WHERE a.attrelid = to_regclass('\(table)') AND a.attnum > 0 AND NOT a.attisdropped),
      (SELECT string_agg(i.relname, ',') FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
        WHERE x.indrelid = to_regclass('\(table)') AND x.indisvalid),
      EXISTS (SELECT FROM pg_index x WHERE x.indrelid = to_regclass('\(table)') AND x.indisunique
        AND x.indisvalid AND x.indnkeyatts = 1 AND x.indpred IS NULL AND x.indkey[0] =
          (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = x.indrelid AND a.attname = 'uri')),
      EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = to_regclass('\(table)')
        AND g.tgname = 'update_\(prefix)_data_updated_at'),
      EXISTS (SELECT FROM pg_proc p WHERE p.proname = '\(prefix)_upsert' AND pg_function_is_visible(p.oid)),
      to_regclass('\(table)_by_program') IS NOT NULL,
      (SELECT c.collname IN ('C', 'POSIX') OR (c.collname = 'default'
          AND to_jsonb(d)->>'datlocprovider' IS DISTINCT FROM 'i' AND d.datcollate IN ('C', 'POSIX'))
        FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation, pg_database d
        WHERE a.attrelid = to_regclass('\(table)') AND a.attname = 'uri' AND d.datname = current_database()),
      (SELECT c.relpersistence FROM pg_class c WHERE c.oid = to_regclass('\(table)'))
    """
  }

  private struct Found {
    var hasTable = false
    var columns: Set<String> = []
    var indexes: Set<String> = []
    var hasUniqueURI = false
    var hasTrigger = false
    var hasUpsert = false
    var hasView = false
    /// The column `uri` is in the order of bytes.
    var isInByteOrder = true
    /// Rows of the table do not survive a crash of the server.
    var isUnlogged = false
  }

  struct Outcome {
    var statements: Statements
    var isUnlogged: Bool
  }

  private static let peersColumns: [(name: String, types: [String])] = [
    ("uri", ["character varying", "text"]), ("data", ["jsonb"]), ("timestamp", ["bigint"]),
    ("updated_at", ["timestamp without time zone"]),
  ]
  private static let ourColumns = [
    "backplane_data bytea", "backplane_content smallint", "backplane_version bigint",
    "backplane_updated_at timestamp without time zone", "backplane_uri text",
  ]

  /// The index in the order of bytes, when the column is not.
  private var orderIndex: String { "idx_\(table)_uri_bytes" }

  private var indexes: [(name: String, columns: String)] {
    [
      ("idx_\(table)_uri_prefix", "uri"), ("idx_\(table)_timestamp", "\"timestamp\""),
      ("idx_\(table)_created_at", "created_at"), ("idx_\(table)_program", "split_part(uri, '://', 1)"),
    ]
  }

  /// Looks, and makes what is missing unless `isToChange` is false.
  func ensure(_ connection: Connection) throws(PostgreSQLProblem) -> Outcome {
    var found = try look(connection)
    if !missing(found).isEmpty {
      for attempt in 1... {
        do throws(PostgreSQLProblem) {
          found = try make(connection)
          break
        } catch {
          _ = try? connection.run("ROLLBACK")
          // The peer, which knows nothing of the lock, may make the same at the same time.
          let isRace = ["23505", "42P07", "42710", "42723", "XX000", "40P01"].contains(error.state)
          guard isRace, attempt < 5 else { throw explained(error) }
        }
      }
    }
    return Outcome(
      statements: Statements(prefix: prefix, order: found.isInByteOrder ? "t.uri" : "t.uri COLLATE \"C\""),
      isUnlogged: found.isUnlogged)
  }

  private func look(_ connection: Connection) throws(PostgreSQLProblem) -> Found {
    let row = try connection.run(question)
    func isTrue(_ column: Int32) -> Bool { row.text(0, column) == "t" }
    func list(_ column: Int32) -> Set<String> { Set(row.text(0, column).split(separator: ",").map(String.init)) }
    let found = Found(
      hasTable: isTrue(0), columns: list(1), indexes: list(2), hasUniqueURI: isTrue(3), hasTrigger: isTrue(4),
      hasUpsert: isTrue(5), hasView: isTrue(6), isInByteOrder: !isTrue(0) || isTrue(7),
      isUnlogged: row.text(0, 8) == "u")
    if found.hasTable { try check(found, connection.place) }
    return found
  }

  private func check(_ found: Found, _ place: String) throws(PostgreSQLProblem) {
    for (name, types) in Self.peersColumns where !types.contains(where: { found.columns.contains("\(name) \($0)") }) {
      throw PostgreSQLProblem(
        .unfit,
        "the table \(table) at \(place) has no column \(name) of type \(types[0]), so it is not b3nd's; give another "
          + "table_prefix", place: place)
    }
    for column in Self.ourColumns {
      let name = column.prefix { $0 != " " }
      if found.columns.contains(where: { $0.hasPrefix("\(name) ") && $0 != column }) {
        throw PostgreSQLProblem(
          .unfit,
          "the column \(name) of \(table) at \(place) has another type than \(column.dropFirst(name.count + 1))",
          place: place)
      }
    }
    if !found.hasUniqueURI {
      throw PostgreSQLProblem(
        .unfit,
        "the table \(table) at \(place) has no unique index on uri alone; make one: ALTER TABLE \(table) ADD PRIMARY "
          + "KEY (uri)", place: place)
    }
  }

  private func make(_ connection: Connection) throws(PostgreSQLProblem) -> Found {
    try connection.run(
      "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('backplane layout of ' || current_schema || '.\(table)', 0))"
    )
    // Somebody else may have been faster.
    let changes = missing(try look(connection))
    if !changes.isEmpty { try connection.run(changes.joined(separator: ";\n")) }
    let found = try look(connection)
    // A table that was made above is in the order of bytes; one that was found may now lack the index for it.
    let rest = missing(found)
    if !rest.isEmpty { try connection.run(rest.joined(separator: ";\n")) }
    try connection.run("COMMIT")
    return found
  }

  private func missing(_ found: Found) -> [String] {
    var changes: [String] = []
    if !found.hasTable {
      changes.append(
        """
        CREATE TABLE IF NOT EXISTS \(table) (uri varchar(2048) COLLATE "C" PRIMARY KEY, data jsonb NOT NULL,
        "timestamp" bigint NOT NULL, created_at timestamp DEFAULT CURRENT_TIMESTAMP,
        updated_at timestamp DEFAULT CURRENT_TIMESTAMP, \(Self.ourColumns.joined(separator: ", ")))
        """)
    } else {
      let columns = Self.ourColumns.filter { !found.columns.contains($0) }.map { "ADD COLUMN IF NOT EXISTS \($0)" }
      if !columns.isEmpty { changes.append("ALTER TABLE \(table) \(columns.joined(separator: ", "))") }
    }
    for index in indexes where !found.indexes.contains(index.name) {
      changes.append("CREATE INDEX IF NOT EXISTS \(index.name) ON \(table) (\(index.columns))")
    }
    if !found.isInByteOrder, !found.indexes.contains(orderIndex) {
      changes.append("CREATE INDEX IF NOT EXISTS \(orderIndex) ON \(table) (uri COLLATE \"C\")")
    }
    if !found.hasTrigger { changes += trigger }
    if !found.hasUpsert { changes.append(upsert) }
    if !found.hasView { changes.append(view) }
    return changes
  }

  private var trigger: [String] {
    let function = "update_\(prefix)_updated_at_column"
    return [
      """
      CREATE OR REPLACE FUNCTION \(function)() RETURNS TRIGGER AS $$
      BEGIN NEW.updated_at = CURRENT_TIMESTAMP; RETURN NEW; END; $$ LANGUAGE plpgsql
      """,
      """
      CREATE TRIGGER update_\(prefix)_data_updated_at BEFORE UPDATE ON \(table)
      FOR EACH ROW EXECUTE FUNCTION \(function)()
      """,
    ]
  }

  private var upsert: String {
    """
    CREATE OR REPLACE FUNCTION \(prefix)_upsert(p_uri varchar, p_data jsonb, p_timestamp bigint) RETURNS void AS $$
    BEGIN
      INSERT INTO \(table) (uri, data, "timestamp") VALUES (p_uri, p_data, p_timestamp)
      ON CONFLICT (uri) DO UPDATE SET data = EXCLUDED.data, "timestamp" = EXCLUDED."timestamp",
      updated_at = CURRENT_TIMESTAMP;
    END; $$ LANGUAGE plpgsql
    """
  }

  private var view: String {
    """
    CREATE OR REPLACE VIEW \(table)_by_program AS SELECT uri, split_part(uri, '://', 1) AS program,
    split_part(uri, '://', 2) AS path, data, "timestamp", created_at, updated_at FROM \(table)
    """
  }

  /// What to do about it, for what an operator can do something about.
  private func explained(_ problem: PostgreSQLProblem) -> PostgreSQLProblem {
    switch problem.state {
    case "42501":
      PostgreSQLProblem(
        .unfit,
        "the user of url may not make \(table) and what belongs to it at \(problem.place) (\(problem.text)); let the "
          + "owner of database and table start a node once, or GRANT CREATE ON SCHEMA", place: problem.place)
    case "57014", "55P03":
      PostgreSQLProblem(
        .unfit,
        "\(table) at \(problem.place) could not be made ready in time (\(problem.text)); see who holds a lock on it, or "
          + "raise statement_timeout_ms and reload.start_timeout_ms while its indexes are made", place: problem.place)
    default: problem
    }
  }
}
