import BackendSupport
import BackendTesting
import MongoWireServer
import PluginAPI
import Testing

/// How units become statements, and what their answers say.
@Suite struct WriteTests {
  private func unit(_ ops: [Op], _ version: UInt64) -> LocalUnit {
    LocalUnit(ops, timestampMs: version, version: version)
  }

  @Test func putsShareRoundTrips() throws {
    let bench = try Bench()
    bench.server.resetCounts()
    let units = (0..<500).map { unit([.put("mutable://open/\($0)", [0x31])], UInt64($0 + 1)) }
    let answers = bench.backend.submit(units).map { $0.wait() }
    #expect(answers.allSatisfy { $0.code == BP_OK })
    #expect(bench.server.documents().count == 500)
    // The first alone, perhaps, and the rest while it was on its way.
    #expect(bench.server.count("update") <= 3, "\(bench.server.count("update"))")
    #expect(bench.server.count("commitTransaction") == 0)
  }

  /// A failing unit fails no other, and first puts know theirs in the crowd.
  @Test func firstPutsShareRoundTripsToo() throws {
    let bench = try Bench()
    for index in 0..<50 { _ = bench.backend.put("mutable://open/\(index * 2)", "0") }
    bench.server.resetCounts()
    let units = (0..<100).map {
      unit([.put("mutable://open/\($0)", Array("1".utf8), .json, if: .absent)], UInt64($0 + 2))
    }
    let answers = bench.backend.submit(units).map { $0.wait() }
    for (index, answer) in answers.enumerated() {
      #expect(answer.code == (index % 2 == 0 ? BP_FAILED_PRECONDITION : BP_OK))
      #expect(bench.backend.text("mutable://open/\(index)") == (index % 2 == 0 ? "0" : "1"))
    }
    #expect(bench.server.count("update") <= 3)
  }

  @Test func readsShareRoundTrips() throws {
    let bench = try Bench(keys: #""readers":1"#)
    for index in 0..<20 { _ = bench.backend.put("mutable://open/\(index)", "\(index)") }
    bench.server.resetCounts()
    Threads.run(20) { index in #expect(bench.backend.text("mutable://open/\(index)") == "\(index)") }
    #expect(bench.server.count("find") <= 20)
    #expect(bench.backend.read("mutable://open/none").code == BP_NOT_FOUND)
  }

  @Test(arguments: Place.all) func unitsToOneURITakeEffectInOrder(_ place: Place) throws {
    let (url, server) = place.open()
    let backend = try Bench.start(url)
    let uri = "mutable://open/a"
    for round in 0..<20 as Range<UInt64> {
      let base = round * 10
      let units = [
        unit([.put(uri, [0x31])], base + 1), unit([.put(uri, [0x32])], base + 2), unit([.delete(uri)], base + 3),
        unit([.put(uri, [0x34], .json, if: .absent)], base + 4),
        unit([.put(uri, [0x35], .json, if: .version(base + 4))], base + 5),
        unit([.put(uri, [0x36], .json, if: .version(base + 4))], base + 6), unit([.delete(uri, if: .absent)], base + 7),
        unit([.put("\(uri)/b", [0x37])], base + 8),
      ]
      let codes = backend.submit(units).map { $0.wait().code }
      #expect(codes == [0, 0, 0, 0, 0, BP_FAILED_PRECONDITION, BP_FAILED_PRECONDITION, 0], "\(place) \(codes)")
      #expect(backend.text(uri) == "5")
    }
    withExtendedLifetime(server) {}
  }

  @Test(arguments: Place.all) func conditionsAndCountsOfSingleOps(_ place: Place) throws {
    let (url, server) = place.open()
    let backend = try Bench.start(url)
    let uri = "mutable://open/a"
    #expect(backend.put(uri, "1", version: 1, if: .present).code == BP_FAILED_PRECONDITION)
    #expect(backend.put(uri, "1", version: 1, if: .version(1)).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.delete(uri)]).absentCount == 1)
    #expect(backend.apply([.delete(uri, if: .absent)]).absentCount == 1)
    #expect(backend.apply([.delete(uri, if: .present)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.put(uri, "1", version: 1, if: .absent).code == BP_OK)
    #expect(backend.put(uri, "2", version: 2, if: .absent).code == BP_FAILED_PRECONDITION)
    #expect(backend.put(uri, "2", version: 2, if: .version(1)).code == BP_OK)
    #expect(backend.apply([.delete(uri, if: .version(1))]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.delete(uri, if: .absent)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.text(uri) == "2")
    let answer = backend.apply([.delete(uri, if: .version(2))])
    #expect(answer.code == BP_OK && answer.absentCount == 0)
    #expect(backend.read(uri).code == BP_NOT_FOUND)
    withExtendedLifetime(server) {}
  }

  @Test func aServerOnItsOwnRefusesWhatNeedsATransactionAndSaysSo() throws {
    let bench = try Bench(.standalone)
    let ops: [Op] = [.put("mutable://open/a", [0x31]), .put("mutable://open/b", [0x32])]
    let answer = bench.backend.apply(ops)
    #expect(answer.code == BP_UNIMPLEMENTED && answer.message.contains("replica set"), "\(answer.message)")
    #expect(bench.server.documents().isEmpty)
    // Beside units that can be done.
    let answers = bench.backend.submit([unit([ops[0]], 1), unit(ops, 2), unit([ops[1]], 3)]).map { $0.wait().code }
    #expect(answers == [BP_OK, BP_UNIMPLEMENTED, BP_OK])
    #expect(bench.backend.health.last?.state == BP_HEALTH_DEGRADED)
    #expect(bench.backend.health.last?.message.contains("no transactions") == true)
  }

  /// Two nodes that put a first record at the same time: one of the upserts is refused by the unique index.
  @Test func anUpsertThatLostARaceIsTriedAgain() throws {
    let bench = try Bench()
    bench.server.inject(Fault("update", .writeErrors(code: 11_000, text: "E11000 duplicate key error"), times: 3))
    #expect(bench.backend.put("mutable://open/a", "1").code == BP_OK)
    bench.server.inject(Fault("update", .writeErrors(code: 11_000, text: "E11000 duplicate key error")))
    #expect(bench.backend.put("mutable://open/b", "1", if: .absent).code == BP_FAILED_PRECONDITION)
  }

  @Test func aTransactionThatMetAnotherIsTriedAgain() throws {
    let bench = try Bench()
    let ops: [Op] = [.put("mutable://open/a", [0x31]), .delete("mutable://open/b")]
    bench.server.inject(Fault("update", .error(code: 112, name: "WriteConflict", text: "conflict"), times: 2))
    bench.server.inject(Fault("commitTransaction", .error(code: 251, name: "NoSuchTransaction", text: "gone")))
    let answer = bench.backend.apply(ops)
    #expect(answer.code == BP_OK && answer.absentCount == 1, "\(answer)")
    #expect(bench.backend.text("mutable://open/a") == "1")
  }

  /// A validator of the collection's refuses one record of a transaction that several units share.
  @Test func aUnitThatTheServerRefusesFailsNoOther() throws {
    let bench = try Bench()
    // Once for all of them together, and once for the first by itself.
    bench.server.inject(Fault("update", .writeErrors(code: 121, text: "Document failed validation"), times: 2))
    let answers = bench.backend.submit([
      unit([.put("mutable://open/a", [0x31]), .put("mutable://open/a/b", [0x31])], 1),
      unit([.put("mutable://open/c", [0x31]), .delete("mutable://open/d")], 2),
      unit([.delete("mutable://open/a")], 3), unit([.put("mutable://open/e", [0x31])], 4),
    ]).map { $0.wait() }
    #expect(answers.map(\.code) == [BP_INVALID_ARGUMENT, BP_OK, BP_OK, BP_OK], "\(answers)")
    #expect(answers.map(\.absentCount) == [0, 1, 1, 0])
    #expect(bench.backend.scan("") == ["mutable://open/c", "mutable://open/e"])
  }

  /// Two instances, as during a reload or on two machines: of first writes one wins, and no raise is lost.
  @Test(arguments: Place.all) func twoInstancesAgree(_ place: Place) throws {
    let (url, server) = place.open()
    let both = [try Bench.start(url), try Bench.start(url)]
    _ = both[0].put("mutable://open/counter", "0", version: 1)
    let stamps = Stamps(2)
    let raised = Stamps(0)
    let firsts = Stamps(0)
    Threads.run(6) { thread in
      let backend = both[thread % 2]
      for round in 0..<20 {
        let version = stamps.next()
        if backend.put("mutable://open/first/\(round)", "\(version)", version: version, if: .absent).code == BP_OK {
          _ = firsts.next()
        }
        guard let record = backend.read("mutable://open/counter").record else {
          Issue.record("the counter is gone")
          return
        }
        let value = Int(String(decoding: record.data, as: UTF8.self)) ?? -1_000
        let answer = backend.put(
          "mutable://open/counter", "\(value + 1)", version: stamps.next(), if: .version(record.version))
        if answer.code == BP_OK { _ = raised.next() }
        guard place.hasTransactions else { continue }
        let tag = Array("\(thread),\(round)".utf8)
        #expect(
          backend.apply([.put("mutable://open/l", tag), .put("mutable://open/r", tag)], version: stamps.next()).code
            == BP_OK)
      }
    }
    #expect(firsts.count == 20)
    #expect(both[1].text("mutable://open/counter") == "\(raised.count)")
    #expect(both[0].text("mutable://open/l") == both[1].text("mutable://open/r"))
    withExtendedLifetime(server) {}
  }

  @Test func whatWaitsTooLongOrTooMuchIsRefused() throws {
    let bench = try Bench(keys: #""queue_units_max":10,"queue_reads_max":1,"readers":1"#)
    bench.server.inject(Fault("update", .delay(milliseconds: 300)))
    let answers = bench.backend.submit((0..<40).map { unit([.put("mutable://open/\($0)", [0x31])], UInt64($0)) })
      .map { $0.wait() }
    #expect(answers.prefix(10).allSatisfy { $0.code == BP_OK })
    let refused = answers.dropFirst(10)
    #expect(refused.allSatisfy { $0.code == BP_RESOURCE_EXHAUSTED && $0.message.contains("queue_units_max") })
  }
}
