import BackendTesting
import CSQLite
import Glibc
import PluginAPI
import SQLiteBackend

// Durable writes through the plugin's table against sqlite3's own functions: same rows, pragmas and values, and for each
// number of concurrent writers the batch that they make. Every record is written twice, the second time with another
// value, because an update that changes nothing is not written by SQLite at all. Prints one JSON object for each figure.

enum Durable {
  /// Writers, and how many records are written in each of the two passes.
  private static let cases = [(writers: 1, count: 2_000), (writers: 16, count: 12_800), (writers: 64, count: 25_600)]

  static func run(rounds: Int) throws {
    for (writers, count) in cases {
      var ours: [Double] = []
      var oursTogether: [Double] = []
      var raws: [Double] = []
      for _ in 0..<rounds {
        let scratch = ScratchDirectory()
        ours.append(try plugin(scratch.path + "/apart", count, writers, unitsInCall: 1))
        if writers > 1 {
          oursTogether.append(try plugin(scratch.path + "/together", count, writers, unitsInCall: writers))
        }
        raws.append(raw(scratch.path + "/raw.db", count, batch: writers))
      }
      report(writers == 1 ? "1 writer" : "\(writers) writers, a call each", ours, raws)
      if writers > 1 { report("\(writers) writers, one call", oursTogether, raws) }
    }
  }

  private static func report(_ name: String, _ ours: [Double], _ raws: [Double]) {
    print("{\"name\":\"\(name)\",\"ours\":\(ours),\"raw\":\(raws)}")
    fflush(nil)
  }

  /// Writes per second: `writers` units are open at a time, `unitsInCall` of them handed over by each call.
  private static func plugin(_ folder: String, _ count: Int, _ writers: Int, unitsInCall: Int) throws -> Double {
    mkdir(folder, 0o700)
    let backend = try TestBackend.started(SQLiteBackend.self, #"{"durability":"disk"}"#, stateDirectory: folder)
    let driver = Driver(backend, count: count)
    let counter = CompletionCounter()
    let start = nowNs()
    for pass in 1...2 {
      var index = 0
      while index < count {
        driver.submit(index, writers, unitsInCall: unitsInCall, version: UInt64(pass), counter)
        index += writers
        while counter.count < (pass - 1) * count + index { sched_yield() }
      }
    }
    return Double(2 * count) / ((nowNs() - start) / 1e9)
  }

  private static func raw(_ path: String, _ count: Int, batch: Int) -> Double {
    let (uris, data) = Driver.values(count: count)
    let raw = RawRecords(path)
    let start = nowNs()
    for pass in 1...2 {
      var index = 0
      while index < count {
        raw.commit(index, batch, version: UInt64(pass), uris, data)
        index += batch
      }
    }
    return Double(2 * count) / ((nowNs() - start) / 1e9)
  }
}

/// The plugin's table of records, by hand.
private final class RawRecords {
  private var database: OpaquePointer?
  private var put: OpaquePointer?

  init(_ path: String) {
    sqlite3_open_v2(path, &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nil)
    execute("PRAGMA cache_size = -4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
    execute(
      """
      CREATE TABLE records (uri TEXT NOT NULL PRIMARY KEY, content INTEGER NOT NULL, ts_ms INTEGER NOT NULL,
      version INTEGER NOT NULL, size_bytes INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID
      """)
    sqlite3_prepare_v2(
      database,
      """
      INSERT INTO records (uri, content, ts_ms, version, size_bytes, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
      ON CONFLICT (uri) DO UPDATE SET content = ?2, ts_ms = ?3, version = ?4, size_bytes = ?5, data = ?6
      """, -1, &put, nil)
  }

  deinit {
    sqlite3_finalize(put)
    sqlite3_close(database)
  }

  func commit(_ first: Int, _ count: Int, version: UInt64, _ uris: [bp_view], _ data: [bp_view]) {
    execute("BEGIN IMMEDIATE")
    for index in first..<first + count {
      let uri = uris[index]
      let value = data[(index + Int(version)) % data.count]
      uri.data!.withMemoryRebound(to: CChar.self, capacity: Int(uri.size)) {
        _ = sqlite3_bind_text(put, 1, $0, Int32(uri.size), nil)
      }
      sqlite3_bind_int64(put, 2, 0)
      sqlite3_bind_int64(put, 3, 1_700_000_000_000 + Int64(version))
      sqlite3_bind_int64(put, 4, Int64(version))
      sqlite3_bind_int64(put, 5, Int64(value.size))
      sqlite3_bind_blob(put, 6, value.data, Int32(value.size), nil)
      guard sqlite3_step(put) == SQLITE_DONE else { fatalError(String(cString: sqlite3_errmsg(database))) }
      sqlite3_reset(put)
    }
    execute("COMMIT")
  }

  private func execute(_ sql: String) {
    guard sqlite3_exec(database, sql, nil, nil, nil) == SQLITE_OK else {
      fatalError(String(cString: sqlite3_errmsg(database)))
    }
  }
}
