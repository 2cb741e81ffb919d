import BackendSupport
import BackendTesting
import Glibc
import PluginAPI
import PostgreSQLBackend
import ServerTesting
import Synchronization
import Testing

/// A server that syncs, for tests that stop it or change its settings: one after the other.
private let durable = Result { try PostgreSQLServer(["fsync": "on", "full_page_writes": "on"]) }

@Suite(.serialized) struct OutageTests {
  let server: PostgreSQLServer

  init() throws { server = try durable.get() }

  private func fixture(_ settings: String = "") throws -> Fixture { try Fixture(settings, on: server) }

  /// Waits for something that must come about; a minute is for ever.
  private func eventually(_ what: String, _ condition: () throws -> Bool) throws {
    for _ in 0..<6_000 {
      if try condition() { return }
      usleep(10_000)
    }
    throw ServerProblem("not within a minute: \(what)")
  }

  private func put(_ uri: String, _ version: UInt64 = 1) -> LocalUnit {
    LocalUnit([.put(uri, Array(uri.utf8), .bytes)], timestampMs: version, version: version)
  }

  /// Writers and readers that go on until told to stop, and what they were told.
  private final class Load: Sendable {
    let acknowledged = Mutex<[String]>([])
    let failures = Failures()
    let readFailures = Failures()
    let isOver = Atomic<Bool>(false)
    private let versions = Atomic<UInt64>(1)

    /// On the calling thread; `meanwhile` on one of its own.
    func run(_ backend: TestBackend, _ meanwhile: @Sendable () -> Void) {
      Threads.run(9) { thread in
        if thread == 8 {
          meanwhile()
          isOver.store(true, ordering: .releasing)
          return
        }
        var index = 0
        while !isOver.load(ordering: .acquiring) {
          let uri = "mutable://open/\(thread)/\(index)"
          let version = versions.add(1, ordering: .relaxed).newValue
          // Every third one is a first write, of two records.
          let data = Array(uri.utf8)
          let ops: [Op] =
            index % 3 == 0
            ? [.put(uri, data, .bytes, if: .absent), .put("\(uri)/twin", data, .bytes)] : [.put(uri, data, .bytes)]
          let answer = backend.apply(ops, version: version)
          if answer.code == BP_OK {
            acknowledged.withLock { $0.append(uri) }
            let read = backend.read(uri)
            if read.record?.data != data, read.code != BP_UNAVAILABLE {
              readFailures.add("\(uri): \(read.code) \(read.message)")
            }
          } else if answer.code != BP_UNAVAILABLE || !answer.isRetryable || answer.message.isEmpty {
            failures.add("\(uri): \(answer.code) \(answer.message)")
          }
          index += 1
        }
      }
    }

    /// What was acknowledged and is not there.
    func lost(_ backend: TestBackend) -> [String] {
      acknowledged.withLock { $0 }.filter { backend.read($0).record?.data != Array($0.utf8) }
    }
  }

  @Test(arguments: [PostgreSQLServer.Shutdown.fast, .immediate])
  func aRestartLosesNothingThatWasAcknowledged(_ shutdown: PostgreSQLServer.Shutdown) throws {
    let fixture = try fixture()
    let load = Load()
    let problems = Failures()
    load.run(fixture.backend) {
      do {
        for _ in 1...3 {
          let before = load.acknowledged.withLock { $0.count }
          try eventually("the first writes") { load.acknowledged.withLock { $0.count } > before + 100 }
          server.stop(shutdown)
          try server.start()
        }
        let before = load.acknowledged.withLock { $0.count }
        try eventually("writes after the last start") { load.acknowledged.withLock { $0.count } > before + 100 }
      } catch { problems.add("\(error)") }
    }
    #expect(problems.all == [] && load.failures.all == [] && load.readFailures.all == [])
    #expect(load.lost(fixture.backend) == [])
    #expect(fixture.backend.health.contains { $0.state == BP_HEALTH_UNHEALTHY && !$0.message.isEmpty })
    try eventually("healthy again") { fixture.backend.health.last?.state == BP_HEALTH_HEALTHY }
  }

  /// A unit is there whole or not at all, whatever was cut.
  @Test func droppedConnectionsCostTimeOnly() throws {
    let fixture = try fixture()
    let load = Load()
    let problems = Failures()
    load.run(fixture.backend) {
      do {
        let client = try server.client()
        for _ in 1...40 {
          let before = load.acknowledged.withLock { $0.count }
          try eventually("more writes") { load.acknowledged.withLock { $0.count } > before + 20 }
          try client.run(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = '\(fixture.database)' AND application_name = 'backplane'
            """)
        }
      } catch { problems.add("\(error)") }
    }
    #expect(problems.all == [] && load.failures.all == [] && load.readFailures.all == [])
    #expect(load.lost(fixture.backend) == [])
    let uris = fixture.backend.scan("mutable://", limit: 4_096)
    let twins = Set(uris.filter { $0.hasSuffix("/twin") }.map { String($0.dropLast(5)) })
    let firsts = Set(uris.filter { !$0.hasSuffix("/twin") && Int($0.split(separator: "/").last!)! % 3 == 0 })
    #expect(twins == firsts)
  }

  /// COMMIT is done and its answer lost: what waits for a standby has been committed already.
  @Test func aCommitWhoseAnswerWasLostIsLookedFor() throws {
    let fixture = try fixture()
    let client = try server.client()
    _ = fixture.backend.apply([.put("a://b/old", [1], .bytes)], version: 1)
    try client.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    try client.run("SELECT pg_reload_conf()")
    defer {
      _ = try? client.run("ALTER SYSTEM RESET synchronous_standby_names")
      _ = try? client.run("SELECT pg_reload_conf()")
    }
    func waiting() throws -> String? {
      try client.value(
        """
        SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = '\(fixture.database)'
        AND query_start < clock_timestamp() - interval '50 ms'
        """)
    }
    // The server heeds a new setting some time after it was told.
    var first: String?
    try eventually("a commit that waits for a standby") {
      let probe = fixture.backend.submit([put("a://b/probe", 5)])[0]
      for _ in 0..<50 where probe.completionsCount == 0 && first == nil {
        usleep(10_000)
        first = try waiting()
      }
      return first != nil
    }
    let calls = fixture.backend.submit([
      LocalUnit([.put("a://b/1", [1], .bytes)], timestampMs: 1, version: 11),
      LocalUnit([.put("a://b/2", [2], .bytes, if: .absent)], timestampMs: 1, version: 12),
      LocalUnit([.put("a://b/1", [3], .bytes)], timestampMs: 1, version: 13),
      LocalUnit(
        [.put("a://b/old", [4], .bytes, if: .version(1)), .put("a://b/3", [4], .bytes)], timestampMs: 1, version: 14),
    ])
    // The probe's end lets these follow, and wait in turn.
    try client.run("SELECT pg_terminate_backend(\(first!))")
    var second: String?
    try eventually("the next commit that waits for a standby") {
      second = try waiting()
      return second != nil && second != first
    }
    try client.run("ALTER SYSTEM RESET synchronous_standby_names")
    // Its reload would let the commit go on.
    try client.run("SELECT pg_terminate_backend(\(second!))")
    try client.run("SELECT pg_reload_conf()")
    let answers = calls.map { $0.wait() }
    #expect(answers.map(\.code) == [BP_OK, BP_OK, BP_OK, BP_OK], "\(answers.map(\.message))")
    #expect(answers.allSatisfy { $0.durability == BP_DURABILITY_DISK })
    #expect(fixture.backend.read("a://b/1").record?.data == [3])
    #expect(fixture.backend.read("a://b/old").record?.version == 14)
  }

  @Test func aDatabaseThatBecomesReadOnly() throws {
    let fixture = try fixture()
    let backend = fixture.backend
    #expect(backend.apply([.put("a://b/1", [1], .bytes)]).code == BP_OK)
    let client = try server.client()
    let drop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(fixture.database)'"
    try client.run("ALTER DATABASE \(fixture.database) SET default_transaction_read_only = on")
    try client.run(drop)
    // A session that has been told to end may take one more statement.
    var answer = backend.apply([.put("a://b/1", [1], .bytes)])
    try eventually("a refusal") {
      if answer.code == BP_OK { answer = backend.apply([.put("a://b/1", [1], .bytes)]) }
      return answer.code != BP_OK
    }
    #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable, "\(answer.code) \(answer.message)")
    #expect(answer.message.contains("is read-only"))
    #expect(backend.read("a://b/1").record?.data == [1])
    #expect(backend.scan("a://b/") == ["a://b/1"])
    try eventually("degraded") {
      backend.health.last?.state == BP_HEALTH_DEGRADED && backend.health.last?.message.contains("is read-only") == true
    }
    try client.run("ALTER DATABASE \(fixture.database) RESET default_transaction_read_only")
    try eventually("writes") { backend.apply([.put("a://b/1", [3], .bytes)]).code == BP_OK }
    #expect(backend.health.last?.state == BP_HEALTH_HEALTHY)
  }

  @Test func aFullDiskIsSaidAndForgotten() throws {
    let fixture = try fixture()
    let client = try fixture.client()
    try client.run(
      """
      CREATE FUNCTION no_room() RETURNS trigger AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file "base/1/2": No space left on device' USING ERRCODE = '53100';
      END $$ LANGUAGE plpgsql;
      CREATE TRIGGER no_room BEFORE INSERT ON b3nd_data FOR EACH ROW EXECUTE FUNCTION no_room()
      """)
    let calls = fixture.backend.submit([put("a://b/1"), put("a://b/2")])
    for answer in calls.map({ $0.wait() }) {
      #expect(answer.code == BP_RESOURCE_EXHAUSTED && answer.isRetryable && answer.message.contains("disk"))
    }
    #expect(fixture.backend.health.last?.state == BP_HEALTH_DEGRADED)
    #expect(fixture.backend.read("a://b/1").code == BP_NOT_FOUND)
    try client.run("DROP TRIGGER no_room ON b3nd_data")
    #expect(fixture.backend.submit([put("a://b/1")])[0].wait().code == BP_OK)
    #expect(fixture.backend.health.last?.state == BP_HEALTH_HEALTHY)
  }

  @Test func aLockThatSomebodyHolds() throws {
    let fixture = try fixture(#""statement_timeout_ms":300"#)
    let client = try fixture.client()
    _ = fixture.backend.submit([put("a://b/held"), put("a://b/free")]).map { $0.wait() }
    try client.run("BEGIN; SELECT 1 FROM b3nd_data WHERE uri = 'a://b/held' FOR UPDATE")
    let answers = fixture.backend.submit([put("a://b/free", 2), put("a://b/held", 2), put("a://b/new", 2)]).map {
      $0.wait()
    }
    #expect(answers.map(\.code) == [BP_OK, BP_UNAVAILABLE, BP_OK])
    #expect(answers[1].message.contains("statement_timeout_ms"), "\(answers[1].message)")
    #expect(fixture.backend.read("a://b/held").record?.version == 1)
    try client.run("COMMIT")
    #expect(fixture.backend.submit([put("a://b/held", 3)])[0].wait().code == BP_OK)
  }

  @Test func aTableThatIsDroppedIsMadeAgain() throws {
    let fixture = try fixture()
    _ = fixture.backend.submit([put("a://b/1")])[0].wait()
    #expect(fixture.backend.read("a://b/1").code == BP_OK)
    try fixture.client().run("DROP TABLE b3nd_data CASCADE")
    #expect(fixture.backend.submit([put("a://b/2")])[0].wait().code == BP_OK)
    #expect(fixture.backend.read("a://b/1").code == BP_NOT_FOUND)
    #expect(fixture.backend.scan("a://b/") == ["a://b/2"])
  }

  @Test func withoutConnectionsToSpareReadsSayWhy() throws {
    let fixture = try fixture()
    let user = "few_\(fixture.database)"
    try server.client().run("CREATE ROLE \(user) LOGIN SUPERUSER CONNECTION LIMIT 1")
    try server.client().run("ALTER ROLE \(user) NOSUPERUSER; GRANT ALL ON DATABASE \(fixture.database) TO \(user)")
    try fixture.client().run("GRANT ALL ON b3nd_data TO \(user)")
    let url = server.url(fixture.database).replacing("postgres@", with: "\(user)@")
    let backend = try Fixture.started(url, #""outage_wait_ms":200"#)
    let answer = backend.read("a://b/1")
    #expect(answer.code == BP_UNAVAILABLE && answer.message.contains("connections_max"), "\(answer.message)")
    #expect(throws: Refused.self) { _ = try Fixture.started(url) }
    try server.client().run("ALTER ROLE \(user) CONNECTION LIMIT -1")
    try eventually("reads") { backend.read("a://b/1").code == BP_NOT_FOUND }
  }

  /// While the server is away calls wait for so long, then they are refused at once.
  @Test func callsDoNotWaitForEver() throws {
    let fixture = try fixture(#""outage_wait_ms":300"#)
    _ = fixture.backend.submit([put("a://b/1")])[0].wait()
    server.stop()
    defer { try? server.start() }
    let calls = fixture.backend.submit((0..<50).map { put("a://b/\($0)") })
    for answer in calls.map({ $0.wait() }) + [fixture.backend.read("a://b/1"), fixture.backend.page("a://b/")] {
      #expect(
        answer.code == BP_UNAVAILABLE && answer.isRetryable && answer.message.contains("url"), "\(answer.message)")
    }
    // Stopping with the server gone leaves nothing open.
    let last = fixture.backend.submit([put("a://b/2")])
    try fixture.backend.stop()
    #expect(last[0].wait().code == BP_UNAVAILABLE)
  }

  /// What a commit means is what the server says when the connection is made.
  @Test func durabilityIsWhatTheServerDoes() throws {
    let name = try server.makeDatabase()
    func durability(_ query: String) throws -> UInt32 {
      try Fixture.started(server.url(name, query)).submit([put("a://b/1")])[0].wait().durability
    }
    #expect(try durability("") == BP_DURABILITY_DISK)
    #expect(try durability("options=-c%20synchronous_commit%3Doff") == BP_DURABILITY_MEMORY)
    #expect(try durability("options=-c%20synchronous_commit%3Dlocal") == BP_DURABILITY_DISK)
    try server.client(name).run("ALTER TABLE b3nd_data SET UNLOGGED")
    #expect(try durability("") == BP_DURABILITY_MEMORY)
  }
}
