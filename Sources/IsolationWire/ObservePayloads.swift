import BackplaneABI

/// What the node has counted of one of its operations (bp_operation_counts), as values.
public struct OperationCounts: Sendable, Equatable {
  public var name: [UInt8]
  public var calls: UInt64
  public var failures: UInt64
  public var timeNs: UInt64
  public var buckets: [UInt64]

  public init(_ counts: UnsafePointer<bp_operation_counts>) {
    name = counts.pointee.name.array
    calls = counts.pointee.calls
    failures = counts.pointee.failures
    timeNs = counts.pointee.time_ns
    buckets = Array(UnsafeBufferPointer(start: counts.pointee.buckets, count: Int(counts.pointee.buckets_count)))
  }

  init(_ reader: inout WireReader) {
    name = reader.view().array
    calls = reader.u64()
    failures = reader.u64()
    timeNs = reader.u64()
    buckets = (0..<reader.count(bytesEach: 8)).map { _ in reader.u64() }
  }

  /// As the boundary's struct, valid during `body`.
  public func with(_ body: (UnsafePointer<bp_operation_counts>) -> Void) {
    name.withUnsafeBufferPointer { name in
      buckets.withUnsafeBufferPointer { buckets in
        var counts = bp_operation_counts(
          size: UInt32(MemoryLayout<bp_operation_counts>.size), buckets_count: UInt32(buckets.count),
          name: bp_view(data: name.baseAddress, size: UInt64(name.count)), calls: calls, failures: failures,
          time_ns: timeNs, buckets: buckets.baseAddress)
        body(&counts)
      }
    }
  }
}

private struct OperationsPayload: WirePayload {
  let list: [OperationCounts]
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(UInt32(list.count))
    for counts in list {
      counts.name.withUnsafeBufferPointer { sink.put(bp_view(data: $0.baseAddress, size: UInt64($0.count))) }
      sink.put(counts.calls)
      sink.put(counts.failures)
      sink.put(counts.timeNs)
      sink.put(UInt32(counts.buckets.count))
      for bucket in counts.buckets { sink.put(bucket) }
    }
  }
}

extension AskingSocket {
  /// The plugin's side.
  public func askOperations() -> [OperationCounts] {
    guard let reply = try? ask(.askOperations, NoPayload()) else { return [] }
    return reply.bytes.withUnsafeBytes { bytes in
      var reader = WireReader(bytes)
      let list = (0..<reader.count(bytesEach: 32)).map { _ in OperationCounts(&reader) }
      return reader.isWhole ? list : []
    }
  }

  /// The kernel's side.
  public func replyOperations(_ question: Question, _ list: [OperationCounts]) -> Bool {
    reply(question.id, OperationsPayload(list: list))
  }
}
