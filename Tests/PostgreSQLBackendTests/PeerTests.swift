import BackendTesting
import PluginAPI
import PostgreSQLBackend
import ServerTesting
import Testing

/// What the peer does at its start and when it writes, statement by statement, with a prefix of its own where a test
/// gives one (docs/postgresql.md).
enum Peer {
  static func layout(_ prefix: String = "b3nd") -> String {
    """
    CREATE TABLE IF NOT EXISTS \(prefix)_data (uri VARCHAR(2048) PRIMARY KEY, data JSONB NOT NULL,
      timestamp BIGINT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
      updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
    CREATE INDEX IF NOT EXISTS idx_\(prefix)_data_uri_prefix ON \(prefix)_data (uri);
    CREATE INDEX IF NOT EXISTS idx_\(prefix)_data_timestamp ON \(prefix)_data (timestamp);
    CREATE INDEX IF NOT EXISTS idx_\(prefix)_data_created_at ON \(prefix)_data (created_at);
    CREATE OR REPLACE FUNCTION update_\(prefix)_updated_at_column() RETURNS TRIGGER AS $$
      BEGIN NEW.updated_at = CURRENT_TIMESTAMP; RETURN NEW; END; $$ language 'plpgsql';
    DROP TRIGGER IF EXISTS update_\(prefix)_data_updated_at ON \(prefix)_data;
    CREATE TRIGGER update_\(prefix)_data_updated_at BEFORE UPDATE ON \(prefix)_data
      FOR EACH ROW EXECUTE FUNCTION update_\(prefix)_updated_at_column();
    CREATE OR REPLACE FUNCTION \(prefix)_upsert(p_uri VARCHAR, p_data JSONB, p_timestamp BIGINT) RETURNS VOID AS $$
      BEGIN INSERT INTO \(prefix)_data (uri, data, timestamp) VALUES (p_uri, p_data, p_timestamp)
        ON CONFLICT (uri) DO UPDATE SET data = EXCLUDED.data, timestamp = EXCLUDED.timestamp,
        updated_at = CURRENT_TIMESTAMP; END; $$ LANGUAGE plpgsql;
    CREATE OR REPLACE VIEW \(prefix)_data_by_program AS SELECT uri, split_part(uri, '://', 1) as program,
      split_part(uri, '://', 2) as path, data, timestamp, created_at, updated_at FROM \(prefix)_data;
    CREATE INDEX IF NOT EXISTS idx_\(prefix)_data_program ON \(prefix)_data (split_part(uri, '://', 1));
    """
  }

  static func write(_ client: PostgreSQLClient, _ uri: String, _ json: String, timestamp: Int) throws {
    try client.run(
      """
      INSERT INTO b3nd_data (uri, data, timestamp) VALUES ($1, $2::jsonb, $3)
      ON CONFLICT (uri) DO UPDATE SET data = EXCLUDED.data, timestamp = EXCLUDED.timestamp, updated_at = CURRENT_TIMESTAMP
      """, [uri, json, "\(timestamp)"])
  }

  static func read(_ client: PostgreSQLClient, _ uri: String) throws -> (data: String, timestamp: String)? {
    let rows = try client.run("SELECT data, timestamp as ts FROM b3nd_data WHERE uri = $1", [uri])
    return rows.first.map { (data: $0[0]!, timestamp: $0[1]!) }
  }
}

@Suite struct PeerTests {
  @Test func thePeerReadsWhatWeWrite() throws {
    let fixture = try Fixture()
    let peer = try fixture.client()
    // As the peer does at every start, also after us.
    try peer.run(Peer.layout())
    let cases: [(String, Content, String)] = [
      (#"{"b":1,"a":"x","b":2}"#, .json, #"{"a": "x", "b": 2}"#),
      (#""hello""#, .json, #""hello""#), ("null", .json, "null"), (" 5 ", .json, "5"),
      (
        #"{"\u0000":"\ud800","pair":"\ud83d\ude00","low":"\udc00x","slash":"\\u0000"}"#, .json,
        #"{"low": "\#u{fffd}x", "\#u{fffd}": "\#u{fffd}", "pair": "😀", "slash": "\\u0000"}"#
      ),
      ("\u{0}\u{1}ÿ", .bytes, #"{"data": "AAHDvw==", "__b3nd_binary__": true}"#),
      ("", .bytes, #"{"data": "", "__b3nd_binary__": true}"#),
      (
        "1e200000", .json,
        #"{"reason": "PostgreSQL's jsonb cannot keep this value; read it through Backplane", "size_bytes": 8, "#
          + #""__backplane_stand_in__": true}"#
      ),
    ]
    for (index, (data, content, seen)) in cases.enumerated() {
      let uri = "mutable://open/\(index)"
      for version in [UInt64(1), 2] {
        let answer = fixture.backend.apply(
          [.put(uri, Array(data.utf8), content)], timestampMs: 1_700_000_000_000 + version, version: version)
        #expect(answer.code == BP_OK, "\(data): \(answer.message)")
        #expect(try Peer.read(peer, uri)?.data == seen)
        #expect(try Peer.read(peer, uri)?.timestamp == "\(1_700_000_000_000 + version)")
        let record = fixture.backend.read(uri).record
        #expect(record?.data == Array(data.utf8) && record?.content == content && record?.version == version)
      }
    }
    #expect(try peer.value("SELECT count(*) FROM b3nd_data_by_program WHERE program = 'mutable'") == "\(cases.count)")
    // Line breaks of the server's base64 would be no base64 to the peer.
    _ = fixture.backend.apply([.put("mutable://open/long", [UInt8](repeating: 7, count: 1_000), .bytes)])
    #expect(try Peer.read(peer, "mutable://open/long")?.data.contains(#"\n"#) == false)
  }

  @Test func weReadWhatThePeerWrites() throws {
    let fixture = try Fixture()
    let peer = try fixture.client()
    try Peer.write(peer, "mutable://open/a", #"{"b":1,"a":[1.50,"é"]}"#, timestamp: 1_700_000_000_001)
    try Peer.write(peer, "mutable://open/b", #"{"__b3nd_binary__":true,"data":"AAH/"}"#, timestamp: 5)
    try Peer.write(peer, "mutable://open/c", #"{"__b3nd_binary__":true,"data":5}"#, timestamp: 6)
    try Peer.write(peer, "mutable://open/d", #""text""#, timestamp: 7)
    let a = fixture.backend.read("mutable://open/a").record
    #expect(a?.data == Array(#"{"a": [1.50, "é"], "b": 1}"#.utf8) && a?.content == .json)
    #expect(a?.timestampMs == 1_700_000_000_001)
    #expect(a.map { $0.version >> 20 } == 1_700_000_000_001)
    let b = fixture.backend.read("mutable://open/b").record
    #expect(b?.data == [0, 1, 255] && b?.content == .bytes)
    #expect(fixture.backend.read("mutable://open/c").record?.content == .json)
    #expect(fixture.backend.read("mutable://open/d").record?.data == Array(#""text""#.utf8))
    // A listing says the size and the version that a read will give.
    let page = fixture.backend.page("mutable://open/")
    #expect(page.items.map(\.uri) == ["a", "b", "c", "d"].map { "mutable://open/\($0)" })
    for item in page.items {
      let record = fixture.backend.read(item.uri).record
      #expect(item.sizeBytes == UInt64(record?.data.count ?? -1))
      #expect(item.version == record?.version && item.content == record?.content.rawValue)
      #expect(item.timestampMs == record?.timestampMs)
      #expect(fixture.backend.read(item.uri, flags: BP_READ_WITHOUT_DATA).record?.version == record?.version)
    }
  }

  /// Our original is not what the row says any more once the peer has written it.
  @Test func whatThePeerOverwritesIsThePeers() throws {
    let fixture = try Fixture()
    let peer = try fixture.client()
    let uri = "mutable://open/a"
    _ = fixture.backend.apply([.put(uri, Array(#"{"ours":1}"#.utf8))], timestampMs: 5, version: 9)
    try Peer.write(peer, uri, #"{"peer":1}"#, timestamp: 5)
    let first = fixture.backend.read(uri).record
    #expect(first?.data == Array(#"{"peer": 1}"#.utf8))
    #expect(first?.version != 9)
    #expect(fixture.backend.apply([.put(uri, Array("1".utf8), if: .version(9))]).code == BP_FAILED_PRECONDITION)
    try peer.run("UPDATE b3nd_data SET data = '2' WHERE uri = 'mutable://open/a'")
    let second = fixture.backend.read(uri).record
    #expect(second?.data == Array("2".utf8))
    #expect(second?.version != first?.version)
    // Ours again, on the condition of the peer's version.
    let answer = fixture.backend.apply(
      [.put(uri, Array(#"{"z":1,"a":2}"#.utf8), if: .version(second!.version))], timestampMs: 6, version: 10)
    #expect(answer.code == BP_OK)
    #expect(fixture.backend.read(uri).record?.data == Array(#"{"z":1,"a":2}"#.utf8))
    try peer.run("DELETE FROM b3nd_data WHERE uri = $1", [uri])
    try Peer.write(peer, uri, "3", timestamp: 7)
    #expect(fixture.backend.read(uri).record?.data == Array("3".utf8))
    #expect(try peer.value("SELECT b3nd_upsert('mutable://open/a', '4', 8)") == "")
    #expect(fixture.backend.read(uri).record?.data == Array("4".utf8))
  }

  @Test func aTableOfThePeersIsTakenOverAsOftenAsOneLikes() throws {
    let server = try PostgreSQLServer.shared()
    // A collation of its own, so that the column is not in the order of bytes.
    let database = try server.makeDatabase("TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    let peer = try server.client(database)
    try peer.run(Peer.layout())
    for name in ["a", "B", "b", "%"] { try Peer.write(peer, "mutable://open/\(name)", #"{"k":1}"#, timestamp: 3) }
    let before = try peer.run("SELECT uri, data, timestamp, created_at, updated_at FROM b3nd_data ORDER BY uri")
    for _ in 1...3 {
      let backend = try Fixture.started(server.url(database))
      #expect(backend.scan("mutable://open/", limit: 2) == ["%", "B", "a", "b"].map { "mutable://open/\($0)" })
      #expect(backend.read("mutable://open/B").record?.data == Array(#"{"k": 1}"#.utf8))
      try backend.stop()
      #expect(
        try peer.run("SELECT uri, data, timestamp, created_at, updated_at FROM b3nd_data ORDER BY uri") == before)
      try peer.run(Peer.layout())
    }
    #expect(try peer.value("SELECT count(*) FROM pg_index WHERE indrelid = 'b3nd_data'::regclass") == "6")
    let plan = try peer.run(
      "EXPLAIN SELECT uri FROM b3nd_data WHERE uri COLLATE \"C\" > 'a' ORDER BY uri COLLATE \"C\"")
    #expect(!plan.isEmpty)
  }

  @Test func aTableOfOursHasAllThatThePeersHas() throws {
    let fixture = try Fixture(#""table_prefix":"Mine_2""#)
    let client = try fixture.client()
    let server = fixture.server
    let other = try server.client(try server.makeDatabase())
    try other.run(Peer.layout("mine_2"))
    func names(_ client: PostgreSQLClient) throws -> [[String?]] {
      try client.run(
        """
        SELECT c.relname, c.relkind::text, '' FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
        UNION ALL SELECT p.proname, pg_get_function_identity_arguments(p.oid), p.prorettype::regtype::text
          FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
        UNION ALL SELECT tgname, tgtype::text, '' FROM pg_trigger
        UNION ALL SELECT column_name, udt_name, coalesce(character_maximum_length::text, '')
          FROM information_schema.columns WHERE table_schema = 'public' AND column_name NOT LIKE 'backplane%'
        ORDER BY 1, 2, 3
        """)
    }
    #expect(try names(client) == names(other))
  }

  @Test func twentyNodesMayStartAtOnce() throws {
    let server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase()
    let url = server.url(database)
    let failures = Failures()
    Threads.run(20) { index in
      do {
        if index % 5 == 0 {
          // The peer, which knows of no lock, among them.
          _ = try? server.client(database).run(Peer.layout())
        } else {
          try Fixture.started(url).stop()
        }
      } catch { failures.add("\(error)") }
    }
    #expect(failures.all == [])
    #expect(try Fixture.started(url).apply([.put("mutable://open/a", Array("1".utf8))]).code == BP_OK)
  }

  @Test func aTableOfAnotherKindIsRefused() throws {
    let server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase()
    let client = try server.client(database)
    try client.run("CREATE TABLE b3nd_data (uri text PRIMARY KEY, data json NOT NULL, timestamp bigint)")
    let refused = #expect(throws: Refused.self) { _ = try Fixture.started(server.url(database)) }
    #expect(refused?.description.contains("has no column data of type jsonb") == true, "\(refused?.description ?? "")")
    try client.run("DROP TABLE b3nd_data")
    try client.run(
      "CREATE TABLE b3nd_data (uri text, data jsonb NOT NULL, timestamp bigint, created_at timestamp, updated_at timestamp)"
    )
    let second = #expect(throws: Refused.self) { _ = try Fixture.started(server.url(database)) }
    #expect(second?.description.contains("unique index on uri") == true, "\(second?.description ?? "")")
    #expect(try client.value("SELECT count(*) FROM pg_attribute WHERE attname LIKE 'backplane%'") == "0")
  }
}
