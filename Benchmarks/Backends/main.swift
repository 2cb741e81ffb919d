import BackendSupport
import BackendTesting
import CSQLite
import Glibc
import MemoryBackend
import PluginAPI
import SQLiteBackend

// What a call costs at the boundary's own tables, and SQLite's commits against sqlite3 by hand. Prints one line each.

func nowNs() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
}

func say(_ name: String, _ value: Double, _ unit: String) {
  print("\(name): \(Int(value.rounded())) \(unit)")
  // A run that is cut short has still said what it measured.
  fflush(nil)
}

func bytes(_ text: String) -> UnsafeBufferPointer<UInt8> {
  let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
  _ = copy.initialize(from: text.utf8)
  return UnsafeBufferPointer(copy)
}

/// The same calls that a kernel would make, without anything around them.
struct Driver: @unchecked Sendable {
  // @unchecked: views of bytes that are never freed.
  let backend: TestBackend
  let uris: [bp_view]
  let data: [bp_view]

  init(_ backend: TestBackend, count: Int) {
    self.backend = backend
    (uris, data) = Self.values(count: count)
  }

  static func values(count: Int) -> (uris: [bp_view], data: [bp_view]) {
    let uris = (0..<count).map { bp_view(bytes("mutable://open/bench/\($0 % 100)/record-\($0)")) }
    let data = (0..<64).map {
      bp_view(bytes(#"{"n":\#($0 + 100),"text":""# + String(repeating: "x", count: 181) + #""}"#))
    }
    return (uris, data)
  }

  /// Submits a put of record `first` and the `count - 1` after it, `unitsInCall` by each call, without waiting.
  func submit(_ first: Int, _ count: Int, unitsInCall: Int, version: UInt64, _ counter: CompletionCounter) {
    // Ops stay until their unit completes, which may be after this returns: like the records, they are never freed.
    let ops = UnsafeMutablePointer<bp_op>.allocate(capacity: count)
    for index in 0..<count {
      ops[index] = bp_op(
        size: .size(of: bp_op.self), verb: BP_VERB_PUT, condition: BP_IF_ANY, content: BP_CONTENT_JSON, if_version: 0,
        flags: 0, reserved: 0, uri: uris[first + index], data: data[(first + index + Int(version)) % data.count],
        refusal: .empty)
    }
    for start in stride(from: 0, to: count, by: unitsInCall) {
      let units = (start..<min(start + unitsInCall, count)).map { index in
        bp_unit(
          size: .size(of: bp_unit.self), ops_count: 1, ops: ops + index, token: counter.token, call: nil,
          ts_ms: 1_700_000_000_000 + version, version: (1_700_000_000_000 + version) << 20)
      }
      backend.table.pointee.apply(backend.plugin.pointee.`self`, units, UInt32(units.count))
    }
  }

  func read(_ count: Int, seed: UInt64, _ counter: CompletionCounter) {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<count {
      var request = bp_read(
        size: .size(of: bp_read.self), flags: 0, token: counter.token, call: nil,
        uri: uris[Int(truncatingIfNeeded: random.next() % UInt64(uris.count))])
      backend.table.pointee.read(backend.plugin.pointee.`self`, &request, 1)
    }
  }

  /// Puts record `first` and the `count - 1` after it, `opsCount` units in each call; waits at the end of each call.
  func put(_ first: Int, _ count: Int, unitsInCall: Int, version: UInt64, _ counter: CompletionCounter) {
    let ops = UnsafeMutablePointer<bp_op>.allocate(capacity: unitsInCall)
    let units = UnsafeMutablePointer<bp_unit>.allocate(capacity: unitsInCall)
    defer {
      ops.deallocate()
      units.deallocate()
    }
    var index = 0
    var target = counter.count
    while index < count {
      let now = min(unitsInCall, count - index)
      for step in 0..<now {
        ops[step] = bp_op(
          size: .size(of: bp_op.self), verb: BP_VERB_PUT, condition: BP_IF_ANY, content: BP_CONTENT_JSON, if_version: 0,
          flags: 0, reserved: 0, uri: uris[(first + index + step) % uris.count],
          data: data[(index + step + Int(version)) % data.count], refusal: .empty)
        units[step] = bp_unit(
          size: .size(of: bp_unit.self), ops_count: 1, ops: ops + step, token: counter.token, call: nil,
          ts_ms: 1_700_000_000_000 + version, version: (1_700_000_000_000 + version) << 20)
      }
      backend.table.pointee.apply(backend.plugin.pointee.`self`, units, UInt32(now))
      target += now
      while counter.count < target { sched_yield() }
      index += now
    }
  }

  func page(_ prefix: String, limit: Int, rounds: Int, _ counter: CompletionCounter) {
    prefix.withView { prefix in
      for _ in 0..<rounds {
        var request = bp_scan(
          size: .size(of: bp_scan.self), flags: 0, token: counter.token, call: nil, prefix: prefix, cursor: .empty,
          credits: UInt32(limit), reserved: 0)
        backend.table.pointee.scan(backend.plugin.pointee.`self`, &request)
      }
    }
  }
}

func measure(_ name: String, _ count: Int, _ body: () -> Void) {
  var times: [Double] = []
  for _ in 0..<3 {
    let start = nowNs()
    body()
    times.append((nowNs() - start) / Double(count))
  }
  say(name, times.sorted()[1], "ns")
}

func memoryBenchmark() throws {
  let driver = Driver(try TestBackend.started(MemoryBackend.self), count: 100_000)
  let counter = CompletionCounter()
  let start = nowNs()
  driver.put(0, 100_000, unitsInCall: 1, version: 1, counter)
  say("memory put new", (nowNs() - start) / 100_000, "ns")
  measure("memory put overwrite", 500_000) { driver.put(0, 500_000, unitsInCall: 1, version: 2, counter) }
  measure("memory read of 100,000 at random", 1_000_000) { driver.read(1_000_000, seed: 1, counter) }
  let few = Driver(driver.backend, count: 100)
  few.put(0, 100, unitsInCall: 1, version: 3, counter)
  measure("memory read of 100 at random", 1_000_000) { few.read(1_000_000, seed: 1, counter) }
  measure("memory read, 2 threads, of each", 1_000_000) {
    Threads.run(2) { thread in driver.read(1_000_000, seed: UInt64(thread), CompletionCounter()) }
  }
  measure("memory page of 50", 20_000) { driver.page("mutable://open/", limit: 50, rounds: 20_000, counter) }
  measure("memory page of 1,000", 2_000) { driver.page("mutable://open/", limit: 1_000, rounds: 2_000, counter) }
}

/// The same rows, pragmas and batch through sqlite3's C functions on one thread.
func rawBatches(_ path: String, synchronous: String, count: Int, batch: Int, _ driver: Driver) -> Double {
  var opened: OpaquePointer?
  sqlite3_open_v2(path, &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nil)
  sqlite3_exec(
    opened, "PRAGMA cache_size = -4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = \(synchronous);", nil, nil, nil)
  sqlite3_exec(
    opened,
    """
    CREATE TABLE IF NOT EXISTS records (uri TEXT NOT NULL PRIMARY KEY, content INTEGER NOT NULL, ts_ms INTEGER NOT NULL,
    version INTEGER NOT NULL, size_bytes INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID
    """, nil, nil, nil)
  var put: OpaquePointer?
  sqlite3_prepare_v2(
    opened,
    """
    INSERT INTO records (uri, content, ts_ms, version, size_bytes, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (uri) DO UPDATE SET content = ?2, ts_ms = ?3, version = ?4, size_bytes = ?5, data = ?6
    """, -1, &put, nil)
  func text(_ index: Int32, _ view: bp_view) {
    sqlite3_bind_text(
      put, index, UnsafeRawPointer(view.data!).assumingMemoryBound(to: CChar.self), Int32(view.size), nil)
  }
  let start = nowNs()
  var index = 0
  while index < count {
    sqlite3_exec(opened, "BEGIN IMMEDIATE", nil, nil, nil)
    for step in index..<min(index + batch, count) {
      text(1, driver.uris[step % driver.uris.count])
      sqlite3_bind_int64(put, 2, 0)
      sqlite3_bind_int64(put, 3, 1_700_000_000_000)
      sqlite3_bind_int64(put, 4, Int64(step))
      sqlite3_bind_int64(put, 5, 200)
      text(6, driver.data[step % driver.data.count])
      if sqlite3_step(put) != SQLITE_DONE { fatalError(String(cString: sqlite3_errmsg(opened))) }
      sqlite3_reset(put)
    }
    sqlite3_exec(opened, "COMMIT", nil, nil, nil)
    index += batch
  }
  let rate = Double(count) / ((nowNs() - start) / 1e9)
  sqlite3_finalize(put)
  sqlite3_close(opened)
  return rate
}

func sqliteBenchmark() throws {
  for (durability, synchronous) in [("disk", "FULL"), ("os", "NORMAL")] {
    for (batch, count) in [(1, durability == "disk" ? 3_000 : 20_000), (16, 30_000), (100, 60_000)] {
      var ours: [Double] = []
      var raws: [Double] = []
      for round in 0..<3 {
        let scratch = ScratchDirectory()
        let backend = try TestBackend.started(
          SQLiteBackend.self, #"{"durability":"\#(durability)"}"#, stateDirectory: scratch.path)
        let driver = Driver(backend, count: count)
        let counter = CompletionCounter()
        let start = nowNs()
        driver.put(0, count, unitsInCall: batch, version: UInt64(round + 1), counter)
        ours.append(Double(count) / ((nowNs() - start) / 1e9))
        raws.append(
          rawBatches("\(scratch.path)/raw.db", synchronous: synchronous, count: count, batch: batch, driver))
      }
      say("sqlite put new, \(durability), \(batch) at a time", ours.sorted()[1], "/s")
      say("  raw sqlite3, same batch", raws.sorted()[1], "/s")
    }
    // Sixteen callers that each wait for their own write: the batch makes itself.
    let scratch = ScratchDirectory()
    let backend = try TestBackend.started(
      SQLiteBackend.self, #"{"durability":"\#(durability)"}"#, stateDirectory: scratch.path)
    let driver = Driver(backend, count: 100_000)
    let start = nowNs()
    Threads.run(16) { thread in
      driver.put(thread * 1_000, 1_000, unitsInCall: 1, version: 1, CompletionCounter())
    }
    say("sqlite put new, \(durability), 16 callers of one", 16_000 / ((nowNs() - start) / 1e9), "/s")
  }
  let scratch = ScratchDirectory()
  let backend = try TestBackend.started(SQLiteBackend.self, #"{"durability":"os"}"#, stateDirectory: scratch.path)
  let driver = Driver(backend, count: 100_000)
  let counter = CompletionCounter()
  driver.put(0, 100_000, unitsInCall: 1_000, version: 1, counter)
  measure("sqlite read of 100,000 at random", 100_000) { driver.read(100_000, seed: 1, counter) }
  let few = Driver(backend, count: 100)
  few.put(0, 100, unitsInCall: 100, version: 2, counter)
  measure("sqlite read of 100 at random", 100_000) { few.read(100_000, seed: 1, counter) }
  measure("sqlite read, 2 threads, of each", 100_000) {
    Threads.run(2) { thread in driver.read(100_000, seed: UInt64(thread), CompletionCounter()) }
  }
  measure("sqlite page of 50", 2_000) { driver.page("mutable://open/", limit: 50, rounds: 2_000, counter) }
  measure("sqlite page of 1,000", 200) { driver.page("mutable://open/", limit: 1_000, rounds: 200, counter) }
}

if CommandLine.arguments.dropFirst().first == "durable" {
  try Durable.run(rounds: CommandLine.arguments.dropFirst(2).first.flatMap { Int($0) } ?? 5)
} else if CommandLine.arguments.dropFirst().first == "handover" {
  try await Handover.run()
} else if CommandLine.arguments.dropFirst().first == "files" {
  try filesBenchmark()
} else {
  try memoryBenchmark()
  try sqliteBenchmark()
}
