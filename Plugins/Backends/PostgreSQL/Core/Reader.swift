import BackendSupport
import CPostgreSQL
import JSONText
import PluginAPI

/// Reads records, those that have gathered in one round trip. One thread.
final class Reader: @unchecked Sendable {
  // @unchecked: everything that changes is only touched by the one thread that calls `run`.
  private let shared: Shared
  private let queue: CallQueue<ReadCall>
  private let keeper: SessionKeeper
  private let parameters = Parameters()
  private static let batchReadsMax = 256
  private static let attemptsMax = 4

  init(_ shared: Shared, _ queue: CallQueue<ReadCall>) {
    self.shared = shared
    self.queue = queue
    keeper = SessionKeeper(.reader, shared)
  }

  func run() {
    while let calls = queue.take(max: Self.batchReadsMax) {
      if calls.isEmpty { continue }
      serve(calls)
      queue.done()
    }
    keeper.close()
  }

  /// Reading again does no harm: a broken connection costs the caller nothing but time.
  private func serve(_ calls: [ReadCall]) {
    shared.metrics.reads.add(Double(calls.count))
    var left = calls
    var attempts = 0
    while !left.isEmpty {
      let session = keeper.wait { isExpired in
        left = left.filter { call in
          guard let reason = isExpired(call.deadlineNs) else { return true }
          call.fail(reason)
          return false
        }
        return left.map(\.deadlineNs).max()
      }
      guard let session else { return }
      shared.metrics.readBatches.increment()
      let failure = read(&left, session)
      guard let failure else { continue }
      if failure.endsConnection { keeper.drop() }
      attempts += 1
      if failure.isWorthRepeating, attempts < Self.attemptsMax { continue }
      for call in left { call.fail(failure.failure) }
      return
    }
  }

  /// Completes what it can and takes it out of `calls`.
  private func read(_ calls: inout [ReadCall], _ session: Session) -> PostgreSQLProblem? {
    // What no record can have as its URI.
    calls = calls.filter { call in
      if RecordKey.isText(call.uri) { return true }
      call.notFound()
      return false
    }
    let withData = calls.filter { !$0.isWithoutData }
    let withoutData = calls.filter(\.isWithoutData)
    var left: [ReadCall] = []
    var problem: PostgreSQLProblem?
    for (group, hasData) in [(withData, true), (withoutData, false)] where !group.isEmpty {
      if problem != nil {
        left += group
        continue
      }
      var isDone = [Bool](repeating: false, count: group.count)
      do throws(PostgreSQLProblem) {
        try read(group, hasData, session, &isDone)
      } catch {
        problem = error
        for (call, isDone) in zip(group, isDone) where !isDone { left.append(call) }
      }
    }
    calls = left
    return problem
  }

  private func read(
    _ calls: [ReadCall], _ hasData: Bool, _ session: Session, _ isDone: inout [Bool]
  ) throws(PostgreSQLProblem) {
    let connection = session.connection
    if calls.count == 1, hasData {
      try RecordKey.with(calls[0].uri) { key throws(PostgreSQLProblem) in
        parameters.set(0, key)
        try connection.send(session.statements.get, parameters)
      }
    } else {
      let list = Self.list(calls)
      try list.withView { view throws(PostgreSQLProblem) in
        parameters.set(0, view.bytes)
        try connection.send(hasData ? session.statements.gets : session.statements.heads, parameters)
      }
    }
    try connection.sync()
    // Large records one by one, not all in memory.
    if calls.count > 1, hasData { PQsetSingleRowMode(connection.handle) }
    var problem: PostgreSQLProblem?
    var largestBytes = 0
    while let result = try connection.next() {
      if result.isError {
        problem = connection.problem(result)
        continue
      }
      for row in 0..<result.rowsCount {
        let index = Int(result.number(row, 0)) - 1
        guard calls.indices.contains(index), !isDone[index] else { continue }
        isDone[index] = true
        if hasData { largestBytes = max(largestBytes, result.bytes(row, 4).count) }
        Self.complete(calls[index], result, row, hasData)
      }
    }
    try connection.finishSync()
    if let problem { throw problem }
    for (index, call) in calls.enumerated() where !isDone[index] {
      isDone[index] = true
      call.notFound()
    }
    keeper.passed(sizeBytes: largestBytes)
  }

  private static func list(_ calls: [ReadCall]) -> [UInt8] {
    if calls.allSatisfy({ $0.uri.count <= RecordKey.plainSizeBytesMax }) {
      return Parameters.array(calls.map(\.uri))
    }
    return Parameters.array(keys: calls.map { RecordKey.copy($0.uri) })
  }

  private static func complete(_ call: ReadCall, _ result: borrowing QueryResult, _ row: Int, _ hasData: Bool) {
    let timestampMs = result.number(row, 1)
    let version = result.number(row, 2)
    let payload = result.number(row, 3)
    let content: Content = payload == StatementParts.Payload.json ? .json : .bytes
    let none = BorrowedBytes(start: nil, count: 0)
    let data = hasData ? result.bytes(row, 4) : none
    guard hasData, payload == StatementParts.Payload.base64 else {
      return call.found(timestampMs: timestampMs, version: version, content: content, data: data)
    }
    var bytes: [UInt8] = []
    Base64.decodeLeniently(UnsafeRawBufferPointer(data), into: &bytes)
    bytes.withUnsafeBufferPointer {
      call.found(timestampMs: timestampMs, version: version, content: .bytes, data: $0)
    }
  }
}
