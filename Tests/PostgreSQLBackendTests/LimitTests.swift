import BackendTesting
import PluginAPI
import PostgreSQLBackend
import ServerTesting
import Testing

@Suite struct LimitTests {
  /// What no repetition can shorten: an index entry of PostgreSQL's has at most 2,704 bytes.
  private static func noise(_ count: Int, seed: UInt64) -> String {
    var random = SeededGenerator(seed: seed)
    let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    return String((0..<count).map { _ in letters[Int.random(in: 0..<64, using: &random)] })
  }

  @Test func longURIs() throws {
    let fixture = try Fixture()
    let backend = fixture.backend
    let root = "mutable://open/"
    let uris = [2_032, 2_033, 2_034, 4_080, 4_081, 65_521].map { root + Self.noise($0, seed: UInt64($0)) }
    #expect(uris.map(\.utf8.count) == [2_047, 2_048, 2_049, 4_095, 4_096, 65_536])
    for (index, uri) in uris.enumerated() {
      let answer = backend.apply([.put(uri, Array("\(index)".utf8), if: .absent)], version: UInt64(index + 1))
      #expect(answer.code == BP_OK, "\(uri.utf8.count): \(answer.message)")
      #expect(backend.apply([.put(uri, [1], if: .absent)]).code == BP_FAILED_PRECONDITION)
      #expect(backend.read(uri).record?.data == Array("\(index)".utf8))
      // Only its end is different.
      #expect(backend.read(uri + "x").code == BP_NOT_FOUND)
    }
    for limit in [1, 2, 100] { #expect(Set(backend.scan(root, limit: limit)) == Set(uris)) }
    // Prefixes that are longer than what stands in the column of a long URI.
    for uri in uris {
      for length in [100, 1_919, 1_920, 1_921, 2_040] {
        #expect(backend.scan(String(uri.prefix(length)), limit: 1) == [uri])
      }
    }
    let unit = uris.map { Op.put($0, [7], .bytes, if: .present) } + [.delete(uris[4], if: .present)]
    #expect(backend.apply(unit, version: 90).code == BP_OK)
    #expect(backend.read(uris[5]).record?.version == 90)
    #expect(Set(backend.scan(root)) == Set(uris).subtracting([uris[4]]))
    let answer = backend.apply([.put(uris[5] + "x", [1])])
    #expect(answer.code == BP_INVALID_ARGUMENT && answer.message.contains("65536"))
    // The peer sees the ones that fit its column.
    #expect(try Peer.read(try fixture.client(), uris[1]) != nil)
  }

  @Test func oddURIs() throws {
    let backend = try Fixture().backend
    #expect(backend.apply([.put("a://b/\u{0}", [1])]).code == BP_INVALID_ARGUMENT)
    #expect(backend.read("a://b/\u{0}").code == BP_NOT_FOUND)
    #expect(backend.scan("a://b/\u{0}") == [])
    for uri in ["a://b/é", "a://b/'\"\\", "a://b/%", "a://b/_", "a://b/\u{10ffff}"] {
      #expect(backend.apply([.put(uri, [2], .bytes)]).code == BP_OK)
      #expect(backend.read(uri).record?.data == [2])
      #expect(backend.scan(uri) == [uri])
    }
    #expect(backend.scan("a://b/").count == 5)
  }

  @Test func largeRecords() throws {
    let fixture = try Fixture()
    let text = Array("{\"a\":\"".utf8) + [UInt8](repeating: 0x78, count: 64 << 20) + Array("\"}".utf8)
    #expect(fixture.backend.apply([.put("a://b/large", text)]).code == BP_OK)
    #expect(fixture.backend.read("a://b/large").record?.data == text)
    #expect(fixture.backend.page("a://b/").items.first?.sizeBytes == UInt64(text.count))
    let client = try fixture.client()
    #expect(try client.value("SELECT data->>'reason' FROM b3nd_data")?.contains("larger than 64 MiB") == true)
    let bytes = [UInt8](repeating: 0xa5, count: 10 << 20)
    #expect(fixture.backend.apply([.put("a://b/large", bytes, .bytes)]).code == BP_OK)
    #expect(fixture.backend.read("a://b/large").record?.data == bytes)
    #expect(try client.value("SELECT length(data->>'data') FROM b3nd_data") == "\((bytes.count + 2) / 3 * 4)")
    let answer = fixture.backend.apply([.put("a://b/huge", [UInt8](repeating: 0x20, count: (256 << 20) + 1), .bytes)])
    #expect(answer.code == BP_INVALID_ARGUMENT && answer.message.contains("268435456"))
  }

  @Test func deepRecords() throws {
    let fixture = try Fixture()
    let deep = Array((String(repeating: "[", count: 200_000) + String(repeating: "]", count: 200_000)).utf8)
    let calls = fixture.backend.submit(
      ["a", "b", "c"].map { .init([.put("a://b/\($0)", $0 == "b" ? deep : [0x31])], timestampMs: 1, version: 1) })
    #expect(calls.map { $0.wait().code } == [BP_OK, BP_OK, BP_OK])
    #expect(fixture.backend.read("a://b/b").record?.data == deep)
    #expect(try fixture.client().value("SELECT data->>'size_bytes' FROM b3nd_data WHERE uri = 'a://b/b'") == "400000")
  }

  /// A constraint that only the server knows of.
  @Test func aFailureOfOneUnitFailsNoOther() throws {
    let fixture = try Fixture()
    try fixture.client().run("ALTER TABLE b3nd_data ADD CONSTRAINT no CHECK (uri NOT LIKE '%bad%')")
    let calls = fixture.backend.submit(
      ["a://b/1", "a://b/bad", "a://b/2", "a://b/bad2", "a://b/3"].map {
        .init([.put("\($0)", [0x31])], timestampMs: 1, version: 1)
      } + [.init([.put("a://b/4", [0x31]), .put("a://b/bad", [0x31])], timestampMs: 1, version: 1)])
    let answers = calls.map { $0.wait() }
    #expect(answers.map { $0.code == BP_OK } == [true, false, true, false, true, false])
    #expect(answers[1].code == BP_INVALID_ARGUMENT && answers[1].message.contains("check constraint"))
    #expect(fixture.backend.scan("") == ["a://b/1", "a://b/2", "a://b/3"])
  }

  @Test func aFullQueueSaysSo() throws {
    let fixture = try Fixture(#""queue_units_max":3"#)
    let client = try fixture.client()
    try client.run("BEGIN; LOCK TABLE b3nd_data")
    let calls = fixture.backend.submit((0..<9).map { .init([.put("a://b/\($0)", [0x31])], timestampMs: 1, version: 1) })
    let refused = calls[3...].map { $0.wait() }
    #expect(refused.allSatisfy { $0.code == BP_RESOURCE_EXHAUSTED && $0.message.contains("queue_units_max") })
    try client.run("COMMIT")
    #expect(calls[..<3].allSatisfy { $0.wait().code == BP_OK })
  }
}
