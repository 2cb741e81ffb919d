import CPostgreSQL
import Glibc
import PluginAPI
import PostgreSQLBackend

/// The same statements by libpq's pipeline: queued, sent, answered, the next.
final class BareSide {
  private let connection: OpaquePointer
  private let values: Values
  private var version: UInt64 = 0
  private let pointers = UnsafeMutablePointer<UnsafePointer<CChar>?>.allocate(capacity: 7)
  private let lengths = UnsafeMutablePointer<Int32>.allocate(capacity: 7)
  private let formats = UnsafeMutablePointer<Int32>.allocate(capacity: 7)
  private let numbers = UnsafeMutablePointer<UInt64>.allocate(capacity: 7)

  init(_ url: String, prefix: String, _ values: Values) throws {
    connection = PQconnectdb(url)
    self.values = values
    precondition(PQstatus(connection) == CONNECTION_OK, String(cString: PQerrorMessage(connection)))
    let statements = ServingStatements(prefix: prefix)
    PQclear(PQexec(connection, "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off"))
    PQclear(PQexec(connection, "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off"))
    let types: [UInt32] = [25, 20, 17, 21, 20, 25, 17]
    let all: [(String, String, [UInt32])] = [
      ("put", statements.put, types), ("get", statements.get, [25]), ("gets", statements.gets, [1009]),
      ("begin", "BEGIN", []), ("commit", "COMMIT", []),
    ]
    for (name, sql, types) in all {
      let result = PQprepare(connection, name, sql, Int32(types.count), types)
      precondition(PQresultStatus(result) == PGRES_COMMAND_OK, String(cString: PQerrorMessage(connection)))
      PQclear(result)
    }
    formats.initialize(repeating: 1, count: 7)
    pointers.initialize(repeating: nil, count: 7)
    lengths.initialize(repeating: 0, count: 7)
    numbers.initialize(repeating: 0, count: 7)
    precondition(PQenterPipelineMode(connection) == 1 && PQsetnonblocking(connection, 1) == 0)
  }

  deinit {
    PQfinish(connection)
    for pointer in [lengths, formats] { pointer.deallocate() }
    pointers.deallocate()
    numbers.deallocate()
  }

  private func set(_ index: Int, _ view: bp_view) {
    pointers[index] = UnsafeRawPointer(view.data!).assumingMemoryBound(to: CChar.self)
    lengths[index] = Int32(view.size)
  }

  private func set(_ index: Int, _ number: UInt64, _ size: Int) {
    numbers[index] = number.bigEndian
    pointers[index] = (UnsafeRawPointer(numbers + index) + (8 - size)).assumingMemoryBound(to: CChar.self)
    lengths[index] = Int32(size)
  }

  private func send(_ name: String, _ count: Int32) {
    precondition(PQsendQueryPrepared(connection, name, count, pointers, lengths, formats, 1) == 1)
  }

  private func wait(_ events: Int32) {
    var item = pollfd(fd: PQsocket(connection), events: Int16(events), revents: 0)
    poll(&item, 1, -1)
    precondition(PQconsumeInput(connection) == 1)
  }

  /// Sends what is queued and takes the answers of `count` statements; the rows that came.
  private func finish(_ count: Int) -> Int {
    precondition(PQpipelineSync(connection) == 1)
    while PQflush(connection) == 1 { wait(POLLIN | POLLOUT) }
    var ends = 0
    var rows = 0
    while true {
      while PQisBusy(connection) == 1 { wait(POLLIN) }
      guard let result = PQgetResult(connection) else {
        ends += 1
        continue
      }
      let status = PQresultStatus(result)
      rows += Int(PQntuples(result))
      PQclear(result)
      if status == PGRES_PIPELINE_SYNC { break }
      precondition(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, String(cString: PQerrorMessage(connection)))
    }
    precondition(ends == count)
    return rows
  }

  func write() -> Double {
    let start = nowNs()
    for _ in 1...2 {
      version += 1
      for first in stride(from: 0, to: recordsCount, by: together) {
        send("begin", 0)
        for index in first..<first + together {
          set(0, values.uris[index])
          set(1, 1_700_000_000_000 + version, 8)
          set(2, values.data[(index + Int(version)) % values.data.count])
          set(3, 0, 2)
          set(4, version, 8)
          (pointers[5], pointers[6]) = (nil, nil)
          send("put", 7)
        }
        send("commit", 0)
        _ = finish(together + 2)
      }
    }
    return Double(2 * recordsCount) / ((nowNs() - start) / 1e9)
  }

  func read() -> Double {
    let start = nowNs()
    for first in stride(from: 0, to: recordsCount, by: together) {
      for index in first..<first + together {
        set(0, values.uris[index &* 7_919 % values.uris.count])
        send("get", 1)
      }
      precondition(finish(together) == together)
    }
    return Double(recordsCount) / ((nowNs() - start) / 1e9)
  }

  func readOneByOne() -> Double {
    let count = 2_000
    let start = nowNs()
    for index in 0..<count {
      set(0, values.uris[index])
      send("get", 1)
      precondition(finish(1) == 1)
    }
    return Double(count) / ((nowNs() - start) / 1e9)
  }

  /// One statement for all of them.
  func readByArray() -> Double {
    let start = nowNs()
    for first in stride(from: 0, to: recordsCount, by: together) {
      var list: [UInt8] = []
      func append(_ number: Int) { withUnsafeBytes(of: UInt32(number).bigEndian) { list.append(contentsOf: $0) } }
      for number in [1, 0, 25, together, 1] { append(number) }
      for index in first..<first + together {
        let uri = values.uris[index &* 7_919 % values.uris.count]
        append(Int(uri.size))
        list.append(contentsOf: uri.bytes)
      }
      list.withView { view in
        set(0, view)
        send("gets", 1)
      }
      precondition(finish(1) == together)
    }
    return Double(recordsCount) / ((nowNs() - start) / 1e9)
  }
}
