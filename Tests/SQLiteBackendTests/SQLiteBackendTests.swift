import BackendSupport
import BackendTesting
import PluginAPI
import SQLiteBackend
import Synchronization
import Testing

private func sqlite(_ scratch: ScratchDirectory, _ settings: String = "") throws -> TestBackend {
  try TestBackend.started(SQLiteBackend.self, "{\(settings)}", stateDirectory: scratch.path)
}

@Suite struct SQLiteBackendTests {
  let scratch = ScratchDirectory()
  var file: String { "\(scratch.path)/records.sqlite3" }

  @Test func tableSaysWhatItCan() throws {
    let backend = try sqlite(scratch)
    #expect(backend.table.pointee.apply_mode == BP_MODE_ASYNC)
    #expect(backend.table.pointee.read_mode == BP_MODE_DIRECT)
    #expect(backend.table.pointee.scan_mode == BP_MODE_BLOCKING)
    #expect(backend.table.pointee.durability_max == BP_DURABILITY_DISK)
    #expect(backend.table.pointee.flags == BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS)
  }

  @Test func readsWhatWasWritten() throws {
    let backend = try sqlite(scratch)
    #expect(backend.read("mutable://open/a").code == BP_NOT_FOUND)
    let text = Array(#"{"b":"é\u0000","a":1e400}"#.utf8)
    let answer = backend.apply([.put("mutable://open/a", text)], timestampMs: 1_700_000_000_000, version: .max)
    #expect(answer.code == BP_OK)
    #expect(answer.durability == BP_DURABILITY_DISK)
    let record = Record(data: text, content: .json, timestampMs: 1_700_000_000_000, version: .max)
    #expect(backend.read("mutable://open/a").record == record)
    let without = backend.read("mutable://open/a", flags: BP_READ_WITHOUT_DATA).record
    #expect(without == Record(data: [], content: .json, timestampMs: record.timestampMs, version: .max))
    for size in [0, 1, 200, 1_002, 1_003, 4096, 3_000_000] {
      let data = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      let content: Content = size % 2 == 0 ? .bytes : .json
      #expect(backend.apply([.put("mutable://open/\(size)", data, content)]).code == BP_OK)
      #expect(backend.read("mutable://open/\(size)").record?.data == data)
      #expect(backend.read("mutable://open/\(size)").record?.content == content)
    }
  }

  @Test func recordsOutliveTheInstance() throws {
    let first = try sqlite(scratch, #""durability":"os""#)
    #expect(first.apply([.put("mutable://open/a", [1], .bytes)]).durability == BP_DURABILITY_OS)
    try first.stop()
    #expect(try sqlite(scratch).read("mutable://open/a").record?.data == [1])
  }

  @Test func scansInTheOrderOfBytes() throws {
    let backend = try sqlite(scratch)
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
    // A prefix that ends with the highest byte has no text after it.
    #expect(backend.page("a://\u{10ffff}").items.isEmpty)
  }

  @Test func aURILongerThanACursorIsRefused() throws {
    let backend = try sqlite(scratch)
    let fits = "a://" + String(repeating: "u", count: 4_092)
    #expect(backend.apply([.put(fits, [1])]).code == BP_OK)
    let answer = backend.apply([.put(fits + "u", [1])])
    #expect(answer.code == BP_INVALID_ARGUMENT)
    #expect(answer.message.contains("4096"))
  }

  @Test func preconditionsAreCheckedInsideTheUnit() throws {
    let backend = try sqlite(scratch)
    let a = "mutable://open/a"
    #expect(backend.apply([.put(a, [1], if: .present)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [1], if: .absent)], version: 3).code == BP_OK)
    #expect(backend.apply([.put(a, [2], if: .absent)]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [2], if: .version(2))]).code == BP_FAILED_PRECONDITION)
    #expect(backend.apply([.put(a, [2], if: .version(3))], version: 4).code == BP_OK)
    #expect(backend.apply([.delete(a, if: .version(3))]).code == BP_FAILED_PRECONDITION)
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

  @Test func unitsOfOneSubmissionFailAloneAndTakeEffectInOrder() throws {
    let backend = try sqlite(scratch)
    func unit(_ ops: [Op], _ version: UInt64) -> LocalUnit { LocalUnit(ops, timestampMs: version, version: version) }
    let calls = backend.submit([
      unit([.put("a://b/1", [1], if: .absent)], 1),
      unit([.put("a://b/2", [1]), .put("a://b/1", [2], if: .absent)], 2),
      unit([.put("a://b/1", [3], if: .version(1))], 3),
      unit([.put("a://b/1", [4], if: .version(1))], 4),
      unit([.put("a://b/" + String(repeating: "u", count: 5_000), [1])], 5),
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

  /// A constraint that only SQLite knows of makes the whole batch fail; each unit must then be tried alone.
  @Test func anUnexpectedFailureOfOneUnitFailsNoOther() throws {
    let backend = try sqlite(scratch)
    _ = try Shell.sqlite(
      file,
      """
      CREATE TRIGGER refuse BEFORE INSERT ON records WHEN new.uri = 'a://b/bad'
      BEGIN SELECT RAISE(FAIL, 'no'); END
      """)
    let calls = backend.submit(
      ["a://b/1", "a://b/bad", "a://b/2"].map { LocalUnit([.put("\($0)", [1])], timestampMs: 1, version: 1) }
        + [LocalUnit([.put("a://b/3", [1]), .put("a://b/bad", [1])], timestampMs: 1, version: 1)])
    let codes = calls.map { $0.wait().code }
    #expect(codes[0] == BP_OK && codes[2] == BP_OK)
    #expect(codes[1] != BP_OK && codes[3] != BP_OK)
    #expect(backend.scan("") == ["a://b/1", "a://b/2"])
  }

  @Test func ofSixtyFourFirstWritesOneIsAccepted() throws {
    let backend = try sqlite(scratch, #""durability":"os""#)
    for round in 0..<10 {
      let accepted = Atomic<Int>(0)
      Threads.run(8) { thread in
        let calls = backend.submit(
          (0..<8).map {
            LocalUnit(
              [.put("immutable://open/\(round)", [UInt8(thread * 8 + $0)], if: .absent)], timestampMs: 1, version: 1)
          })
        for call in calls where call.wait().code == BP_OK { accepted.add(1, ordering: .relaxed) }
      }
      #expect(accepted.load(ordering: .relaxed) == 1)
    }
  }

  @Test func aReadSeesEveryUnitThatWasCompletedBefore() throws {
    let backend = try sqlite(scratch, #""durability":"os","readers":2"#)
    let faults = Atomic<Int>(0)
    Threads.run(6) { thread in
      for version in 1...200 {
        let uri = "mutable://open/\(thread)"
        guard backend.apply([.put(uri, Array("\(version)".utf8))], version: UInt64(version)).code == BP_OK,
          backend.read(uri).record?.version == UInt64(version)
        else {
          faults.add(1, ordering: .relaxed)
          return
        }
      }
    }
    #expect(faults.load(ordering: .relaxed) == 0)
  }

  @Test func aFullQueueSaysSo() throws {
    let backend = try sqlite(scratch, #""queue_units_max":4"#)
    let calls = backend.submit((0..<10).map { LocalUnit([.put("a://b/\($0)", [1])], timestampMs: 1, version: 1) })
    let answers = calls.map { $0.wait() }
    #expect(answers.prefix(4).allSatisfy { $0.code == BP_OK })
    #expect(answers.suffix(6).allSatisfy { $0.code == BP_RESOURCE_EXHAUSTED && $0.isRetryable })
    #expect(answers[9].message.contains("queue_units_max"))
  }

  @Test func whatWaitsAtStopIsWritten() throws {
    let backend = try sqlite(scratch)
    let calls = backend.submit((0..<200).map { LocalUnit([.put("a://b/\($0)", [1])], timestampMs: 1, version: 1) })
    try backend.stop()
    #expect(calls.allSatisfy { $0.completionsCount == 1 && $0.wait().code == BP_OK })
    #expect(try sqlite(scratch).scan("a://b/").count == 200)
  }

  /// A reload by overlap: the old generation and the new one have the same file open and both write.
  @Test func twoGenerationsShareTheFile() throws {
    let old = try sqlite(scratch, #""durability":"os""#)
    let new = try sqlite(scratch, #""durability":"os""#)
    let faults = Atomic<Int>(0)
    Threads.run(4) { thread in
      let (mine, other) = thread % 2 == 0 ? (old, new) : (new, old)
      for index in 0..<150 {
        let uri = "mutable://open/\(thread)/\(index)"
        if mine.apply([.put(uri, [1])]).code != BP_OK || other.read(uri).code != BP_OK {
          faults.add(1, ordering: .relaxed)
        }
      }
    }
    #expect(faults.load(ordering: .relaxed) == 0)
    try old.stop()
    #expect(new.apply([.put("mutable://open/last", [1])]).code == BP_OK)
    #expect(new.scan("mutable://open/").count == 601)
    #expect(old.health.isEmpty && new.health.isEmpty)
  }

  @Test func theShellShowsTheRecords() throws {
    let backend = try sqlite(scratch)
    _ = backend.apply([.put("a://b/json", Array(#"{"a":1}"#.utf8))], timestampMs: 5, version: 6)
    _ = backend.apply([.put("a://b/bytes", [0, 255], .bytes)], timestampMs: 7, version: 8)
    // While the backend has it open, and after.
    for _ in 0..<2 {
      #expect(
        try Shell.sqlite(file, "SELECT uri, content, ts_ms, version, size_bytes, data FROM records WHERE content = 0")
          == "a://b/json|0|5|6|7|{\"a\":1}\n")
      #expect(try Shell.sqlite(file, "SELECT hex(data), typeof(data) FROM records WHERE content = 1") == "00FF|blob\n")
      #expect(try Shell.sqlite(file, "PRAGMA integrity_check") == "ok\n")
      #expect(try Shell.sqlite(file, "PRAGMA user_version") == "1\n")
      try backend.stop()
    }
  }

  // MARK: Configuration and refusals

  private func refusal(_ settings: String) -> [String] {
    do {
      _ = try TestBackend(SQLiteBackend.self, "{\(settings)}", stateDirectory: scratch.path)
      return []
    } catch let refused as Refused {
      return refused.lines
    } catch {
      return ["\(error)"]
    }
  }

  @Test func configurationIsCheckedWithoutTouchingAFile() {
    #expect(refusal(#""url":"sqlite:///nowhere/at/all.db""#) == [])
    #expect(refusal(#""url":"sqlite://""#) == [])
    for url in [
      "memory://", "sqlite:/a", "sqlite:///a?mode=ro", "sqlite:///a#b", "sqlite:///a%zz", "sqlite:///a%0",
      "sqlite:///a%00",
      "sqlite:///a/", "sqlite://../a.db", "sqlite://a/../../b.db",
    ] {
      let lines = refusal(#""url":"\#(url)""#)
      #expect(lines.count == 1 && lines[0].hasPrefix("/url: "), "\(url)")
    }
    let lines = refusal(
      #""busy_timeout_ms":-1,"cache_size_bytes":1,"batch_units_max":0,"queue_units_max":0,"readers":65"#)
    #expect(
      lines.map { String($0.prefix { $0 != ":" }) }
        == ["/busy_timeout_ms", "/cache_size_bytes", "/batch_units_max", "/queue_units_max", "/readers"])
    #expect(refusal(#""durability":"quorum""#).count == 1)
    #expect(refusal(#""durabilty":"os""#).count == 1)
  }

  private func startRefusal(_ settings: String) -> String {
    do {
      _ = try sqlite(scratch, settings)
      return ""
    } catch {
      return "\(error)"
    }
  }

  @Test func namesAreResolved() throws {
    for (url, path) in [("sqlite://own.db", "own.db"), ("sqlite://\(scratch.path)/a%20b.db", "a b.db")] {
      let backend = try sqlite(scratch, #""url":"\#(url)""#)
      _ = backend.apply([.put("a://b", [1])])
      #expect(try Shell.sqlite("\(scratch.path)/\(path)", "SELECT uri FROM records") == "a://b\n")
    }
  }

  @Test func startSaysWhatIsWrongWithTheFile() throws {
    let missing = startRefusal(#""url":"sqlite://no/such.db""#)
    #expect(missing.contains("\(scratch.path)/no is not there") && missing.contains("correct url"))
    let directory = startRefusal(#""url":"sqlite://\#(scratch.path)""#)
    #expect(directory.contains("is a directory"))
    _ = try Shell.output("sh", ["-c", "echo this is a text and no database, is it > '\(scratch.path)/text.db'"])
    #expect(startRefusal(#""url":"sqlite://text.db""#).contains("is not a SQLite database"))
    _ = try Shell.sqlite("\(scratch.path)/other.db", "CREATE TABLE t (a)")
    #expect(startRefusal(#""url":"sqlite://other.db""#).contains("of another program"))
    try sqlite(scratch, #""url":"sqlite://newer.db""#).stop()
    _ = try Shell.sqlite("\(scratch.path)/newer.db", "PRAGMA user_version = 9")
    #expect(startRefusal(#""url":"sqlite://newer.db""#).contains("has layout 9 and this plugin knows up to 1"))
  }

  @Test func aLockedFileIsSaidAndForgotten() throws {
    let backend = try sqlite(scratch, #""busy_timeout_ms":20"#)
    // A writer of somebody else's that does not let go until its input ends.
    let lock = try HeldLock(file)
    let answer = backend.apply([.put("a://b", [1])])
    #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable)
    #expect(answer.message.contains("busy_timeout_ms"))
    #expect(backend.health.last?.state == BP_HEALTH_DEGRADED)
    #expect(backend.read("a://b").code == BP_NOT_FOUND)
    try lock.release()
    #expect(backend.apply([.put("a://b", [1])]).code == BP_OK)
    #expect(backend.health.last?.state == BP_HEALTH_HEALTHY)
  }

  @Test func selfTestPassesInItsScratchDirectory() throws {
    let backend = try TestBackend(
      SQLiteBackend.self, #"{"url":"sqlite:///nowhere/at/all.db"}"#, purpose: BP_PURPOSE_TEST)
    try backend.selfTest(scratch.path)
    #expect(throws: Refused.self) { try backend.selfTest("\(scratch.path)/missing") }
  }

  @Test func startingAndStoppingLeavesNothingBehind() throws {
    try sqlite(scratch).stop()
    let before = (ProcessCounts.threads, ProcessCounts.descriptors)
    for index in 0..<100 {
      let backend = try sqlite(scratch, #""durability":"os""#)
      _ = backend.apply([.put("a://b/\(index)", [1])])
      _ = backend.read("a://b/\(index)")
      _ = backend.page("a://b/")
      try backend.stop()
    }
    #expect(ProcessCounts.threads < before.0 + 50)
    #expect(ProcessCounts.descriptors < before.1 + 50)
  }
}
