import CPostgreSQL
import PluginAPI

/// A result of libpq's, freed when it goes.
struct QueryResult: ~Copyable {
  let handle: OpaquePointer

  init(_ handle: OpaquePointer) { self.handle = handle }

  deinit { PQclear(handle) }

  var status: ExecStatusType { PQresultStatus(handle) }
  var isError: Bool {
    switch status {
    case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_SINGLE_TUPLE, PGRES_PIPELINE_SYNC: false
    default: true
    }
  }
  var rowsCount: Int { Int(PQntuples(handle)) }

  /// How many rows a command changed or found.
  var affectedCount: Int {
    guard let text = PQcmdTuples(handle) else { return 0 }
    var number = 0
    var place = UnsafePointer(text)
    while place.pointee >= 0x30, place.pointee <= 0x39 {
      number = number * 10 + Int(place.pointee - 0x30)
      place += 1
    }
    return number
  }

  /// "COMMIT", "ROLLBACK" and the like.
  var commandTag: String { PQcmdStatus(handle).map { String(cString: $0) } ?? "" }

  func isNull(_ row: Int, _ column: Int32) -> Bool { PQgetisnull(handle, Int32(row), column) == 1 }

  /// Valid as long as the result.
  @inline(__always)
  func bytes(_ row: Int, _ column: Int32) -> BorrowedBytes {
    let start = UnsafeRawPointer(PQgetvalue(handle, Int32(row), column)!).assumingMemoryBound(to: UInt8.self)
    return BorrowedBytes(start: start, count: Int(PQgetlength(handle, Int32(row), column)))
  }

  func text(_ row: Int, _ column: Int32) -> String { String(decoding: bytes(row, column), as: UTF8.self) }

  /// A bigint or a smallint in binary.
  @inline(__always)
  func number(_ row: Int, _ column: Int32) -> UInt64 {
    var value: UInt64 = 0
    for byte in bytes(row, column) { value = value << 8 | UInt64(byte) }
    return value
  }

  /// SQLSTATE; empty: it is libpq that failed.
  var state: String { field("C") }
  /// What is wrong, without the details, which may quote the record.
  var message: String { field("M") }

  /// libpq's names of fields are characters.
  private func field(_ code: Unicode.Scalar) -> String {
    PQresultErrorField(handle, Int32(code.value)).map { String(cString: $0) } ?? ""
  }
}
