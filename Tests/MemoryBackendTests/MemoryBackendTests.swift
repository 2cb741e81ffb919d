import BackendSupport
import BackendTesting
import MemoryBackend
import PluginAPI
import Synchronization
import Testing

private func json(_ text: String) -> [UInt8] { Array(text.utf8) }

private func memory(_ configuration: String = "{}") throws -> TestBackend {
  try TestBackend.started(MemoryBackend.self, configuration)
}

@Suite struct MemoryBackendTests {
  @Test func tableSaysWhatItCan() throws {
    let backend = try memory()
    #expect(backend.table.pointee.apply_mode == BP_MODE_DIRECT)
    #expect(backend.table.pointee.read_mode == BP_MODE_DIRECT)
    #expect(backend.table.pointee.scan_mode == BP_MODE_DIRECT)
    #expect(backend.table.pointee.durability_max == BP_DURABILITY_MEMORY)
    #expect(backend.table.pointee.flags == BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS)
  }

  @Test func readsWhatWasWritten() throws {
    let backend = try memory()
    #expect(backend.read("mutable://open/a").code == BP_NOT_FOUND)
    let answer = backend.apply([.put("mutable://open/a", json("{}"))], timestampMs: 5, version: 9)
    #expect(answer.code == BP_OK)
    #expect(answer.durability == BP_DURABILITY_MEMORY)
    #expect(
      backend.read("mutable://open/a").record
        == Record(data: json("{}"), content: .json, timestampMs: 5, version: 9))
    let without = backend.read("mutable://open/a", flags: BP_READ_WITHOUT_DATA).record
    #expect(without == Record(data: [], content: .json, timestampMs: 5, version: 9))
    // Of a size that fills nothing, one word, and many pages.
    for size in [0, 1, 7, 8, 9, 200, 4096, 1_000_000] {
      let data = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      #expect(backend.apply([.put("mutable://open/\(size)", data, .bytes)]).code == BP_OK)
      #expect(backend.read("mutable://open/\(size)").record?.data == data)
    }
  }

  /// b3nd.md, section 9: depth first, first insertion, a record before its children, overwriting does not move.
  @Test func scansInTheOrderOfFirstInsertion() throws {
    let backend = try memory()
    let p = "mutable://open"
    for uri in ["\(p)/b", "\(p)/a/x/1", "\(p)/c", "\(p)/a", "\(p)/b/z", "\(p)/a/y", "\(p)/b", "\(p)/ab"] {
      #expect(backend.apply([.put(uri, json("1"))]).code == BP_OK)
    }
    let whole = ["\(p)/b", "\(p)/b/z", "\(p)/a", "\(p)/a/x/1", "\(p)/a/y", "\(p)/c", "\(p)/ab"]
    #expect(backend.scan("\(p)/") == whole)
    #expect(backend.scan("") == whole)
    #expect(backend.scan("mutable://") == whole)
    #expect(backend.scan("\(p)/a/") == ["\(p)/a/x/1", "\(p)/a/y"])
    // A prefix need not end with a segment.
    #expect(backend.scan("\(p)/a") == ["\(p)/a", "\(p)/a/x/1", "\(p)/a/y", "\(p)/ab"])
    #expect(backend.scan("\(p)/a/x/1") == ["\(p)/a/x/1"])
    #expect(backend.scan("\(p)/none/") == [])
    #expect(backend.scan("mutable://closed/") == [])
    for limit in 1...8 {
      #expect(backend.scan("\(p)/", limit: limit) == whole)
      #expect(backend.scan("\(p)/a", limit: limit) == ["\(p)/a", "\(p)/a/x/1", "\(p)/a/y", "\(p)/ab"])
    }
    // The root of a program is a record like any other.
    #expect(backend.apply([.put(p, json("0"))]).code == BP_OK)
    #expect(backend.scan("mutable://") == [p] + whole)
    // Exactly one record is deleted; what lies below it stays where it was.
    #expect(backend.apply([.delete("\(p)/a")]).absentCount == 0)
    #expect(backend.scan("\(p)/") == ["\(p)/b", "\(p)/b/z", "\(p)/a/x/1", "\(p)/a/y", "\(p)/c", "\(p)/ab"])
    // A leaf that is removed and put again goes last; so does a branch that was emptied.
    #expect(backend.apply([.delete("\(p)/c"), .delete("\(p)/a/x/1"), .delete("\(p)/a/y")]).code == BP_OK)
    #expect(backend.apply([.put("\(p)/c", json("1")), .put("\(p)/a/y", json("1"))]).code == BP_OK)
    #expect(backend.scan("\(p)/") == ["\(p)/b", "\(p)/b/z", "\(p)/ab", "\(p)/c", "\(p)/a/y"])
  }

  @Test func itemsSayWhatTheRecordsAre() throws {
    let backend = try memory()
    _ = backend.apply([.put("mutable://open/a", [1, 2, 3], .bytes)], timestampMs: 4, version: 5)
    let item = Answer.Item(
      uri: "mutable://open/a", timestampMs: 4, version: 5, sizeBytes: 3, content: BP_CONTENT_BYTES)
    #expect(backend.page("mutable://open/").items == [item])
  }

  @Test func aCursorStaysGoodWhileRecordsComeAndGo() throws {
    let backend = try memory()
    var random = SeededGenerator(seed: 7)
    let stay = (0..<300).map { "mutable://open/\($0 % 7)/\($0)" }
    for uri in stay { _ = backend.apply([.put(uri, [1])]) }
    for round in 0..<20 {
      var seen: [String] = []
      var cursor: [UInt8] = []
      var visitors: [String] = []
      repeat {
        let page = backend.page("mutable://open/", cursor: cursor, limit: Int.random(in: 1...20, using: &random))
        #expect(page.code == BP_OK)
        seen += page.items.map(\.uri)
        cursor = page.cursor
        // Those that the page ended with are the most likely to break a cursor.
        for uri in page.items.map(\.uri) where visitors.contains(uri) { _ = backend.apply([.delete(uri)]) }
        for index in 0..<5 {
          let uri = "mutable://open/\(Int.random(in: 0...9, using: &random))/v\(round)-\(seen.count)-\(index)/w"
          visitors.append(uri)
          _ = backend.apply([.put(uri, [2])])
        }
        for _ in 0..<3 {
          let uri = visitors.remove(at: Int.random(in: 0..<visitors.count, using: &random))
          _ = backend.apply([.delete(uri)])
        }
      } while !cursor.isEmpty && seen.count < 100_000
      let wanted = Set(stay)
      #expect(seen.filter(wanted.contains).count == stay.count)
      #expect(Set(seen.filter(wanted.contains)) == wanted)
      for uri in visitors { _ = backend.apply([.delete(uri)]) }
    }
    #expect(Set(backend.scan("")) == Set(stay))
  }

  @Test func aForeignCursorIsRefused() throws {
    let backend = try memory()
    #expect(backend.page("", cursor: [1, 2, 3]).code == BP_INVALID_ARGUMENT)
    #expect(backend.page("", cursor: Array(repeating: 0xff, count: 4096)).code == BP_INVALID_ARGUMENT)
    _ = backend.apply([.put("a://b/c", [1])])
    #expect(backend.page("", cursor: Array(repeating: 0xff, count: 16)).items.isEmpty)
  }

  @Test func deepURIsKeepTheirCursorsShort() throws {
    let backend = try memory()
    let deep = "mutable://open" + String(repeating: "/a", count: 1500)
    let uris = [deep, deep + "/x", deep + "/y", deep + "b"]
    for uri in uris { #expect(backend.apply([.put(uri, [1])]).code == BP_OK) }
    let first = backend.page("mutable://open/", limit: 1)
    #expect(first.items.map(\.uri) == [deep])
    #expect(!first.cursor.isEmpty && first.cursor.count <= 4096)
    #expect(backend.scan("mutable://open/", limit: 1) == uris)
    #expect(backend.scan(deep + "/", limit: 1) == [deep + "/x", deep + "/y"])
    for uri in uris { #expect(backend.apply([.delete(uri)]).absentCount == 0) }
    #expect(backend.scan("") == [])
  }

  /// A filter that matches nothing must not hold the caller for long: it yields empty pages with a cursor.
  @Test func aPageLooksAtABoundedNumberOfRecords() throws {
    let backend = try memory()
    for index in 0..<20_000 { _ = backend.apply([.put("mutable://open/b\(index)/c", [1])]) }
    _ = backend.apply([.put("mutable://open/a", [1])])
    let page = backend.page("mutable://open/a")
    #expect(page.items.isEmpty && !page.cursor.isEmpty)
    #expect(backend.scan("mutable://open/a") == ["mutable://open/a"])
    #expect(backend.page("mutable://open/", limit: 65_536).items.count < 65_536)
    #expect(backend.scan("mutable://open/", limit: 65_536).count == 20_001)
  }

  @Test func preconditionsAreCheckedInsideTheUnit() throws {
    let backend = try memory()
    let a = "mutable://open/a"
    #expect(backend.apply([.put(a, [1], if: .present)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [1], if: .absent)], version: 3).code == BP_OK)
    #expect(backend.apply([.put(a, [2], if: .absent)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [2], if: .version(2))]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [2], if: .version(3))], version: 4).code == BP_OK)
    #expect(backend.apply([.delete(a, if: .version(3))]).code == BP_FAILED_PRECONDITION)
    // Earlier ops of the unit count.
    let answer = backend.apply(
      [.put("\(a)/1", [1], if: .absent), .put("\(a)/1", [2], if: .present), .put("\(a)/1", [3], if: .absent)])
    #expect(answer.code == BP_FAILED_PRECONDITION)
    #expect(answer.failedOp == 2)
    #expect(backend.read("\(a)/1").code == BP_NOT_FOUND)
    let fine = backend.apply(
      [.put("\(a)/1", [1], if: .absent), .delete("\(a)/1", if: .version(9)), .put("\(a)/1", [3], if: .absent)],
      version: 9)
    #expect(fine.code == BP_OK)
    #expect(backend.read("\(a)/1").record?.data == [3])
    #expect(backend.apply([.delete("\(a)/1"), .delete("\(a)/1"), .delete("\(a)/2")]).absentCount == 2)
  }

  @Test func aFailedUnitChangesNothingNotEvenTheOrder() throws {
    let backend = try memory()
    let before = ["mutable://open/a", "mutable://open/b", "mutable://open/c"]
    for uri in before { _ = backend.apply([.put(uri, [1])]) }
    let answer = backend.apply(
      [.delete(before[0]), .put("mutable://open/d", [1]), .put(before[1], [2]), .put(before[2], [1], if: .absent)])
    #expect(answer.code == BP_FAILED_PRECONDITION)
    #expect(answer.failedOp == 3)
    #expect(backend.scan("") == before)
    #expect(backend.read(before[1]).record?.data == [1])
  }

  @Test func boundsAreKeptAndSaid() throws {
    let backend = try memory(#"{"url":"memory://","records_max":2,"size_bytes_max":2000}"#)
    #expect(
      backend.apply([.put("a://b/1", [1]), .put("a://b/2", [1]), .put("a://b/3", [1])]).code == BP_RESOURCE_EXHAUSTED)
    #expect(backend.scan("") == [])
    #expect(backend.apply([.put("a://b/1", [1]), .put("a://b/2", [1])]).code == BP_OK)
    let full = backend.apply([.put("a://b/3", [1])])
    #expect(full.code == BP_RESOURCE_EXHAUSTED)
    #expect(full.message.contains("records_max is 2"))
    #expect(backend.apply([.put("a://b/1", [2])]).code == BP_OK)
    let large = backend.apply([.put("a://b/1", [UInt8](repeating: 1, count: 2000))])
    #expect(large.code == BP_RESOURCE_EXHAUSTED)
    #expect(large.message.contains("size_bytes_max is 2000"))
    #expect(backend.apply([.delete("a://b/2"), .put("a://b/3", [1])]).code == BP_OK)
  }

  @Test func configurationIsRefusedWithAPointer() throws {
    func refusal(_ configuration: String) -> [String] {
      do {
        _ = try TestBackend(MemoryBackend.self, configuration)
        return []
      } catch let refused as Refused {
        return refused.lines
      } catch {
        return ["\(error)"]
      }
    }
    #expect(
      refusal(#"{"records_max":-1,"url":"memory://x"}"#).map { $0.split(separator: ":")[0] } == [
        "/url", "/records_max",
      ])
    #expect(refusal(#"{"record_max":1}"#).count == 1)
    #expect(refusal(#"{}"#) == [])
  }

  @Test func ofSixtyFourFirstWritesOneIsAccepted() throws {
    let backend = try memory()
    for round in 0..<50 {
      let accepted = Atomic<Int>(0)
      Threads.run(8) { thread in
        for index in 0..<8 {
          let answer = backend.apply([.put("immutable://open/\(round)", [UInt8(thread * 8 + index)], if: .absent)])
          if answer.code == BP_OK { accepted.add(1, ordering: .relaxed) }
        }
      }
      #expect(accepted.load(ordering: .relaxed) == 1)
    }
  }

  /// Two records are always written together; a reader that sees the new one first must then see the other one new too.
  @Test func readersSeeAUnitWholeOrNotAtAll() throws {
    let backend = try memory()
    let uris = (0..<8).map { "mutable://open/\($0)" }
    @Sendable func unit(_ version: UInt64) -> [Op] {
      let data = [UInt8](repeating: UInt8(version & 0xff), count: 64)
      return uris.map { .put($0, data) }
    }
    _ = backend.apply(unit(1), version: 1)
    let isDone = Atomic<Bool>(false)
    let faults = Atomic<Int>(0)
    Threads.run(4) { thread in
      if thread == 0 {
        for version in 2...3000 { _ = backend.apply(unit(UInt64(version)), version: UInt64(version)) }
        isDone.store(true, ordering: .releasing)
        return
      }
      while !isDone.load(ordering: .acquiring) {
        var last: UInt64 = 0
        for uri in uris {
          guard let record = backend.read(uri).record else { return _ = faults.add(1, ordering: .relaxed) }
          let isWhole = record.data.allSatisfy { $0 == UInt8(record.version & 0xff) }
          if record.version < last || !isWhole { faults.add(1, ordering: .relaxed) }
          last = record.version
        }
      }
    }
    #expect(faults.load(ordering: .relaxed) == 0)
  }

  @Test func manyThreadsComeAndGoTogether() throws {
    let backend = try memory()
    Threads.run(4) { thread in
      var random = SeededGenerator(seed: UInt64(thread))
      for step in 0..<5_000 {
        let uri = "mutable://open/\(thread)/\(Int.random(in: 0..<50, using: &random))"
        switch Int.random(in: 0..<4, using: &random) {
        case 0: _ = backend.apply([.delete(uri)])
        case 1: _ = backend.page("mutable://open/", limit: 20)
        default: _ = backend.apply([.put(uri, Array("\(step)".utf8))])
        }
      }
    }
    // What a scan lists is what can be read.
    let listed = backend.scan("")
    #expect(Set(listed).count == listed.count)
    for thread in 0..<4 {
      for index in 0..<50 {
        let uri = "mutable://open/\(thread)/\(index)"
        #expect((backend.read(uri).code == BP_OK) == listed.contains(uri))
      }
    }
  }

  @Test func selfTestPasses() throws {
    try TestBackend(MemoryBackend.self, purpose: BP_PURPOSE_TEST).selfTest("/nonexistent")
  }

  @Test func startingAndStoppingLeavesNothingBehind() throws {
    _ = try memory()
    let before = (ProcessCounts.threads, ProcessCounts.descriptors)
    for _ in 0..<100 {
      let backend = try memory()
      _ = backend.apply([.put("a://b", [1])])
      try backend.stop()
    }
    // Other suites of the process come and go, so only what 100 cycles would leave is looked for.
    #expect(ProcessCounts.threads < before.0 + 50)
    #expect(ProcessCounts.descriptors < before.1 + 50)
  }
}
