import BackendSupport
import BackendTesting
import Foundation
import PluginAPI
import Synchronization
import Testing

@testable import FilesBackend

@Suite struct FilesBackendTests {
  let scratch = ScratchDirectory()
  var folder: Folder { Folder(scratch) }

  @Test func tableSaysWhatItCan() throws {
    let backend = try files(scratch)
    #expect(backend.table.pointee.apply_mode == BP_MODE_ASYNC)
    #expect(backend.table.pointee.read_mode == BP_MODE_BLOCKING)
    #expect(backend.table.pointee.scan_mode == BP_MODE_BLOCKING)
    #expect(backend.table.pointee.durability_max == BP_DURABILITY_DISK)
    #expect(backend.table.pointee.flags == BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS)
  }

  @Test func readsWhatWasWritten() throws {
    let backend = try files(scratch, #""durability":"disk""#)
    for size in [0, 1, 200, 4_096, 65_536, 65_537, 3_000_000] {
      let data = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      let answer = backend.apply([.put("mutable://open/\(size)", data, .bytes)], timestampMs: 9, version: .max)
      #expect(answer.code == BP_OK && answer.durability == BP_DURABILITY_DISK)
      let record = Record(data: data, content: .bytes, timestampMs: 9, version: .max)
      #expect(backend.read("mutable://open/\(size)").record == record)
      #expect(folder.read("mutable/open/\(size).bytes") == data)
      let without = backend.read("mutable://open/\(size)", flags: BP_READ_WITHOUT_DATA).record
      #expect(without == Record(data: [], content: .bytes, timestampMs: 9, version: .max))
    }
    try backend.stop()
    let again = try files(scratch)
    #expect(again.read("mutable://open/200").record?.version == .max)
    #expect(again.apply([.put("mutable://open/a", [1])]).durability == BP_DURABILITY_OS)
  }

  @Test func aStampIsTheTimeOfTheFile() throws {
    let backend = try files(scratch)
    let (a, b) = ("mutable://open/a", "mutable://open/b")
    #expect(
      backend.apply([.put(a, [1])], timestampMs: KernelStamp.timestampMs, version: KernelStamp.version(7)).code == BP_OK
    )
    #expect(backend.apply([.put(b, [1])], timestampMs: 5, version: 6).code == BP_OK)
    #expect(folder.names == ["mutable/open/.b.json.stamp", "mutable/open/a.json", "mutable/open/b.json"])
    // The note goes when there is nothing to say any more.
    #expect(
      backend.apply([.put(b, [1])], timestampMs: KernelStamp.timestampMs, version: KernelStamp.version(8)).code == BP_OK
    )
    #expect(folder.names == ["mutable/open/a.json", "mutable/open/b.json"])
    #expect(backend.apply([.put(b, [1], .bytes)], timestampMs: 5, version: 6).code == BP_OK)
    #expect(folder.names == ["mutable/open/.b.bytes.stamp", "mutable/open/a.json", "mutable/open/b.bytes"])
    #expect(backend.apply([.put(b, [1])], timestampMs: 5, version: 6).code == BP_OK)
    #expect(folder.names == ["mutable/open/.b.json.stamp", "mutable/open/a.json", "mutable/open/b.json"])
    #expect(backend.apply([.delete(a), .delete(b)]).absentCount == 0)
    #expect(folder.names == [])
  }

  @Test func unitsOfOneSubmissionSeeEachOther() throws {
    let backend = try files(scratch, #""durability":"disk""#)
    func unit(_ ops: [Op], _ version: UInt64) -> LocalUnit { LocalUnit(ops, timestampMs: version, version: version) }
    let calls = backend.submit([
      unit([.put("a://b/1", [1], if: .absent)], 1),
      unit([.put("a://b/2", [1]), .put("a://b/1", [2], if: .absent)], 2),
      unit([.put("a://b/1", [3], .bytes, if: .version(1))], 3),
      unit([.put("a://b/1", [4], if: .version(1))], 4),
      unit([.delete("a://b/1"), .put("a://b/c/d", [5])], 5),
      unit([.delete("a://b/c/d", if: .version(5)), .delete("a://b/c/e")], 6),
      unit([.put("a://b/c/f", [7], .bytes), .put("a://b/c/f", [8]), .put("a://b/c/f", [9], .bytes)], 7),
    ])
    #expect(
      calls.map { $0.wait().code }
        == [BP_OK, BP_FAILED_PRECONDITION, BP_OK, BP_FAILED_PRECONDITION, BP_OK, BP_OK, BP_OK])
    #expect(calls[5].wait().absentCount == 1)
    #expect(backend.scan("") == ["a://b/c/f"])
    #expect(backend.read("a://b/c/f").record?.data == [9])
    #expect(folder.names == ["a/b/c/.f.bytes.stamp", "a/b/c/f.bytes"])
  }

  // MARK: Scans

  /// Runs that hold only a part of a directory, and records that change their kind meanwhile.
  @Test func everyRecordIsSeenOnceWhateverHappensMeanwhile() throws {
    let backend = try files(scratch, #""durability":"os","scan_cache_size_bytes_max":65536"#)
    let stayers = (0..<1_500).map { "mutable://open/large/record-\($0)" }
    for start in stride(from: 0, to: stayers.count, by: 100) {
      #expect(backend.apply(stayers[start..<(start + 100)].map { .put($0, [1]) }).code == BP_OK)
    }
    let isOver = Atomic<Bool>(false)
    Threads.run(2) { thread in
      if thread == 0 {
        var random = SeededGenerator(seed: 1)
        var version: UInt64 = 2
        while !isOver.load(ordering: .relaxed) {
          let uri = stayers.randomElement(using: &random)!
          version += 1
          _ = backend.apply([.put(uri, [2], version % 2 == 0 ? .json : .bytes)], version: version)
          _ = backend.apply([version % 4 < 2 ? .put("\(uri)-x", [1]) : .delete("\(uri)-x")])
        }
        return
      }
      for limit in [97, 1_000, 5_000] {
        let seen = backend.scan("mutable://open/", limit: limit).filter { !$0.hasSuffix("-x") }
        #expect(seen.count == stayers.count && Set(seen) == Set(stayers))
        let some = backend.scan("mutable://open/large/record-12", limit: limit).filter { !$0.hasSuffix("-x") }
        #expect(Set(some) == Set(stayers.filter { $0.hasPrefix("mutable://open/large/record-12") }))
      }
      isOver.store(true, ordering: .relaxed)
    }
    // What came while an earlier scan was under way is in the next.
    let page = backend.page("mutable://open/large/", limit: 10)
    #expect(backend.apply([.put("mutable://open/large/record-1000-new", [1])]).code == BP_OK)
    #expect(backend.scan("mutable://open/large/", limit: 10).contains("mutable://open/large/record-1000-new"))
    #expect(!page.cursor.isEmpty && backend.page("mutable://open/large/", cursor: page.cursor).code == BP_OK)
  }

  // MARK: Configuration and refusals

  private func refusal(_ settings: String) -> [String] {
    do {
      _ = try TestBackend(FilesBackend.self, "{\(settings)}", stateDirectory: scratch.path)
      return []
    } catch let refused as Refused {
      return refused.lines
    } catch {
      return ["\(error)"]
    }
  }

  @Test func configurationIsCheckedWithoutTouchingAFile() {
    for url in ["file://", "file:///nowhere/at/all", "file:///nowhere/", "file:///a%20b"] {
      #expect(refusal(#""url":"\#(url)""#) == [], "\(url)")
    }
    for url in [
      "files:///a", "/a", "file:/a", "file://host/a", "file://localhost/a", "file:///", "file:///a?mode=ro",
      "file:///a#b", "file:///a%zz", "file:///a%00",
    ] {
      let lines = refusal(#""url":"\#(url)""#)
      #expect(lines.count == 1 && lines[0].hasPrefix("/url: "), "\(url): \(lines)")
    }
    let keys = ["batch_units_max", "queue_units_max", "record_size_bytes_max", "log_size_bytes_max"]
    let lines = refusal(keys.map { "\"\($0)\":0" }.joined(separator: ","))
    #expect(lines.map { String($0.prefix { $0 != ":" }) } == keys.map { "/\($0)" })
    #expect(refusal(#""scan_cache_size_bytes_max":1"#).count == 1)
    #expect(refusal(#""durability":"quorum""#).count == 1)
    #expect(refusal(#""readable_by":"nobody""#).count == 1)
    #expect(refusal(#""url":"file://","mode":"0600""#).count == 1)
    #expect(folder.names == [] && folder.mode("") == 0)
  }

  private func startRefusal(_ settings: String) -> String {
    do {
      _ = try files(scratch, settings)
      return ""
    } catch {
      return "\(error)"
    }
  }

  @Test func startSaysWhatIsWrongWithTheDirectory() throws {
    let missing = startRefusal(#""url":"file://\#(scratch.path)/no/such""#)
    #expect(missing.contains("the directory \(scratch.path)/no is not there") && missing.contains("correct url"))
    try Data("text".utf8).write(to: URL(fileURLWithPath: "\(scratch.path)/file"))
    #expect(startRefusal(#""url":"file://\#(scratch.path)/file""#).contains("is not a directory"))
    // Nobody can write there, not even root.
    let forbidden = startRefusal(#""url":"file:///sys/backplane""#)
    #expect(forbidden.contains("/sys/backplane"))
    #expect(forbidden.contains("not allowed") || forbidden.contains("read-only"))
    try files(scratch).stop()
    try folder.write(".backplane/format", "9\n")
    #expect(startRefusal("").contains("says layout 9 and this plugin knows up to 1"))
  }

  @Test func oneDirectoryServesOneSlot() throws {
    let first = try files(scratch)
    #expect(first.apply([.put("a://b/c", [1])]).code == BP_OK)
    let refusal = startRefusal("")
    #expect(refusal.contains("\(folder.path) is in use by process \(getpid())"))
    #expect(first.apply([.put("a://b/c", [2])]).code == BP_OK)
    try first.stop()
    #expect(try files(scratch).read("a://b/c").record?.data == [2])
  }

  @Test func recordsBeyondTheLimitAreRefused() throws {
    let backend = try files(scratch, #""durability":"os","record_size_bytes_max":1024"#)
    let answer = backend.apply([.put("a://b/c", Array(repeating: 1, count: 1_025))])
    #expect(answer.code == BP_INVALID_ARGUMENT && answer.message.contains("1024"))
    try folder.write("a/b/d.txt", String(repeating: "x", count: 1_025))
    let read = backend.read("a://b/d.txt")
    #expect(read.code == BP_RESOURCE_EXHAUSTED && read.message.contains("record_size_bytes_max"))
    #expect(backend.read("a://b/d.txt", flags: BP_READ_WITHOUT_DATA).code == BP_OK)
    #expect(backend.health.isEmpty)
  }

  @Test func selfTestPassesInItsScratchDirectory() throws {
    let backend = try TestBackend(FilesBackend.self, #"{"url":"file:///nowhere/at/all"}"#, purpose: BP_PURPOSE_TEST)
    try backend.selfTest(scratch.path)
    #expect(throws: Refused.self) { try backend.selfTest("\(scratch.path)/missing") }
  }

  @Test func startingAndStoppingLeavesNothingBehind() throws {
    try files(scratch).stop()
    let before = (ProcessCounts.threads, ProcessCounts.descriptors)
    for index in 0..<100 {
      let backend = try files(scratch)
      _ = backend.apply([.put("a://b/\(index % 5)", [1])])
      _ = backend.read("a://b/\(index % 5)")
      _ = backend.page("a://b/", limit: 1)
      try backend.stop()
    }
    #expect(ProcessCounts.threads < before.0 + 50)
    #expect(ProcessCounts.descriptors < before.1 + 50)
  }
}
