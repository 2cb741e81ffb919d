import BackendSupport
import BackendTesting
import PluginAPI
import PostgreSQLBackend
import ServerTesting
import Testing

/// A started backend in a database of its own.
struct Fixture {
  let server: PostgreSQLServer
  let database: String
  let backend: TestBackend

  init(_ settings: String = "", on server: PostgreSQLServer? = nil, options: String = "") throws {
    self.server = try server ?? PostgreSQLServer.shared()
    database = try self.server.makeDatabase(options)
    backend = try Self.started(self.server.url(database), settings)
  }

  static func started(_ url: String, _ settings: String = "") throws -> TestBackend {
    try TestBackend.started(PostgreSQLBackend.self, configuration(url, settings))
  }

  static func configuration(_ url: String, _ settings: String = "") -> String {
    #"{"url":"\#(url)"\#(settings.isEmpty ? "" : ",\(settings)")}"#
  }

  func another(_ settings: String = "") throws -> TestBackend { try Self.started(server.url(database), settings) }
  func client() throws -> PostgreSQLClient { try server.client(database) }
}

@Suite struct PostgreSQLBackendTests {
  @Test func tableSaysWhatItCan() throws {
    let backend = try TestBackend(PostgreSQLBackend.self, Fixture.configuration("postgres://h/d"))
    #expect(backend.table.pointee.apply_mode == BP_MODE_ASYNC)
    #expect(backend.table.pointee.read_mode == BP_MODE_ASYNC)
    #expect(backend.table.pointee.scan_mode == BP_MODE_ASYNC)
    #expect(backend.table.pointee.durability_max == BP_DURABILITY_QUORUM)
    #expect(backend.table.pointee.flags == BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS)
    try backend.selfTest("/nowhere")
  }

  @Test func readsWhatWasWritten() throws {
    let backend = try Fixture().backend
    #expect(backend.read("mutable://open/a").code == BP_NOT_FOUND)
    let text = Array(#"{"b":"é\u0000","a":1e400}"#.utf8)
    let answer = backend.apply([.put("mutable://open/a", text)], timestampMs: 1_700_000_000_000, version: .max)
    #expect(answer.code == BP_OK, "\(answer.message)")
    // The server of the tests does not sync.
    #expect(answer.durability == BP_DURABILITY_OS)
    let record = Record(data: text, content: .json, timestampMs: 1_700_000_000_000, version: .max)
    #expect(backend.read("mutable://open/a").record == record)
    let without = backend.read("mutable://open/a", flags: BP_READ_WITHOUT_DATA).record
    #expect(without == Record(data: [], content: .json, timestampMs: record.timestampMs, version: .max))
    for size in [0, 1, 200, 1_002, 1_003, 4096, 3_000_000] {
      let data = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      let content: Content = size % 2 == 0 ? .bytes : .json
      let answer = backend.apply([.put("mutable://open/\(size)", data, content)])
      #expect(answer.code == BP_OK, "\(size): \(answer.message)")
      #expect(backend.read("mutable://open/\(size)").record?.data == data)
      #expect(backend.read("mutable://open/\(size)").record?.content == content)
    }
  }

  @Test func recordsOutliveTheInstance() throws {
    let fixture = try Fixture()
    #expect(fixture.backend.apply([.put("mutable://open/a", [1], .bytes)]).code == BP_OK)
    try fixture.backend.stop()
    #expect(try fixture.another().read("mutable://open/a").record?.data == [1])
  }

  /// Whatever collation the database has.
  @Test(arguments: ["", "TEMPLATE template0 LOCALE 'C'", "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"])
  func scansInTheOrderOfBytes(_ options: String) throws {
    let backend = try Fixture(options: options).backend
    let uris = ["a://b", "a://b/a", "a://b/a!", "a://b/a/1", "a://b/a/2/x", "a://b/aa", "a://b/b", "a://c/a"]
    _ = backend.apply(uris.shuffled().map { .put($0, [1, 2], .bytes) }, timestampMs: 3, version: 4)
    for limit in 1...9 {
      #expect(backend.scan("", limit: limit) == uris)
      #expect(backend.scan("a://b/", limit: limit) == Array(uris[1...6]))
      #expect(backend.scan("a://b/a", limit: limit) == Array(uris[1...5]))
      #expect(backend.scan("a://b/a/", limit: limit) == Array(uris[3...4]))
    }
    #expect(backend.scan("a://x/") == [])
    let item = Answer.Item(uri: "a://c/a", timestampMs: 3, version: 4, sizeBytes: 2, content: BP_CONTENT_BYTES)
    #expect(backend.page("a://c/").items == [item])
    // The record that a cursor names may go.
    let page = backend.page("", limit: 3)
    _ = backend.apply([.delete("a://b/a!")])
    #expect(backend.page("", cursor: page.cursor).items.map(\.uri) == Array(uris[3...]))
    #expect(backend.page("a://\u{10ffff}").items.isEmpty)
    #expect(backend.page("a://\u{d7ff}").items.isEmpty)
  }

  /// From the index, and by way of it, also where it is one of our own.
  @Test(arguments: ["", "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"])
  func totalsAndPagesFromTheMiddleAreThoseOfAScan(_ options: String) throws {
    let server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase(options)
    let client = try server.client(database)
    if !options.isEmpty { try client.run(Peer.layout()) }
    let backend = try Fixture.started(server.url(database))
    let uris = (["B", "a", "%", "z"] + (10..<30).map(String.init)).map { "a://b/\($0)" }.sorted()
    _ = backend.apply(
      uris.shuffled().map { .put($0, [1], .bytes) } + [.put("a://c/1", [1])], timestampMs: 5, version: 7)
    try Peer.write(client, "a://b/29", #"{"of":"the peer"}"#, timestamp: 3)
    let all = backend.page("a://b/").items
    #expect(all.map(\.uri) == uris)
    for (offset, limit) in [(0 as Int, 100 as Int), (0, 5), (5, 5), (22, 5), (24, 5), (1_000, 5), (3, 0)] {
      let answer = backend.query("a://b/", offset: UInt64(offset), limit: UInt32(limit))
      #expect(answer.code == BP_OK && answer.total == 24, "\(answer.message)")
      #expect(answer.items == Array(all.dropFirst(offset).prefix(limit)))
    }
    #expect(backend.query("", offset: 24, limit: 9).items.map(\.uri) == ["a://c/1"])
    #expect(backend.query("x://", offset: 0, limit: 9).total == 0)
    #expect(backend.query(String(repeating: "x", count: 2_000) + "/", offset: 0, limit: 9).code == BP_UNIMPLEMENTED)
  }

  /// Those that wait share a round trip, in any number.
  @Test func manyReadsAtOnce() throws {
    let backend = try Fixture().backend
    let uris = (0..<700).map { "a://b/\($0)" }
    _ = backend.apply(
      uris.enumerated().filter { $0.offset % 7 != 0 }.map { .put($0.element, Array($0.element.utf8), .bytes) })
    let failures = Failures()
    Threads.run(8) { thread in
      for uri in uris {
        let number = Int(uri.dropFirst(6))!
        let record = backend.read(uri, flags: (number + thread) % 5 == 0 ? BP_READ_WITHOUT_DATA : 0).record
        let isThere = number % 7 != 0
        if (record != nil) != isThere { failures.add("\(uri) is there: \(record != nil)") }
        if let record, !record.data.isEmpty, record.data != Array(uri.utf8) { failures.add("\(uri) is another's") }
      }
    }
    #expect(failures.all == [])
  }

  @Test func preconditionsAreCheckedInsideTheUnit() throws {
    let backend = try Fixture().backend
    let a = "mutable://open/a"
    #expect(backend.apply([.put(a, [1], if: .present)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [1], if: .absent)], version: 3).code == BP_OK)
    #expect(backend.apply([.put(a, [2], if: .absent)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [2], if: .version(2))]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [2], if: .version(3))], version: 4).code == BP_OK)
    #expect(backend.apply([.delete(a, if: .version(3))]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.delete(a, if: .absent)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.delete("\(a)/0", if: .present)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.delete("\(a)/0", if: .absent)]).absentCount == 1)
    let answer = backend.apply(
      [.put("\(a)/1", [1], if: .absent), .put("\(a)/1", [2], if: .present), .put("\(a)/1", [3], if: .absent)])
    #expect(answer.code == BP_FAILED_PRECONDITION)
    #expect(answer.failedOp == 2)
    #expect(backend.read("\(a)/1").code == BP_NOT_FOUND)
    let fine = backend.apply(
      [.put("\(a)/1", [1], if: .absent), .delete("\(a)/1", if: .version(9)), .put("\(a)/1", [3], if: .absent)],
      version: 9)
    #expect(fine.code == BP_OK, "\(fine.message)")
    #expect(backend.read("\(a)/1").record?.data == [3])
    #expect(backend.apply([.delete("\(a)/1"), .delete("\(a)/1"), .delete("\(a)/2")]).absentCount == 2)
  }

  @Test func unitsOfOneSubmissionFailAloneAndTakeEffectInOrder() throws {
    let backend = try Fixture().backend
    func unit(_ ops: [Op], _ version: UInt64) -> LocalUnit { LocalUnit(ops, timestampMs: version, version: version) }
    let calls = backend.submit([
      unit([.put("a://b/1", [1], if: .absent)], 1),
      unit([.put("a://b/2", [1]), .put("a://b/1", [2], if: .absent)], 2),
      unit([.put("a://b/1", [3], if: .version(1))], 3),
      unit([.put("a://b/1", [4], if: .version(1))], 4),
      unit([.put("a://b/" + String(repeating: "u", count: 70_000), [1])], 5),
      unit([.delete("a://b/3")], 6),
    ])
    #expect(
      calls.map { $0.wait().code }
        == [BP_OK, BP_FAILED_PRECONDITION, BP_OK, BP_FAILED_PRECONDITION, BP_INVALID_ARGUMENT, BP_OK])
    #expect(calls[1].wait().failedOp == 1)
    #expect(calls.allSatisfy { $0.completionsCount == 1 })
    #expect(backend.read("a://b/1").record?.data == [3])
    #expect(backend.scan("") == ["a://b/1"])
  }
}
