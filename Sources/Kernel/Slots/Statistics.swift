import BackplaneABI
import Synchronization

/// The data operations that the kernel counts.
enum Operation: Int, CaseIterable, Sendable {
  case apply, read, scan, judge, exportState, importState, query, nodeReady, nodeEnding

  /// A request's, as against the host's own business with an instance.
  @inline(__always)
  var isData: Bool { rawValue <= Operation.judge.rawValue || self == .query }

  var name: String {
    switch self {
    case .apply: "apply"
    case .read: "read"
    case .scan: "scan"
    case .judge: "judge"
    case .exportState: "export_state"
    case .importState: "import_state"
    case .query: "query"
    case .nodeReady: "node_ready"
    case .nodeEnding: "node_ending"
    }
  }
}

/// What the host counts of every call, whether the plugin likes it or not.
final class Statistics: @unchecked Sendable {
  // @unchecked: atomics in plain memory that is allocated once and freed in deinit.

  /// Buckets of doubling width from 256 ns: the last, 23rd, is above 1 s.
  static let bucketCount = 24
  static let codeCount = 21
  private static let stride = bucketCount + codeCount + 1

  private let cells: UnsafeMutablePointer<Atomic<UInt64>>
  private let operationCount: Int

  /// - Parameter operationCount: how many operations there are to count, by a number from 0.
  init(operationCount: Int = Operation.allCases.count) {
    self.operationCount = operationCount
    let count = operationCount * Statistics.stride
    cells = .allocate(capacity: count)
    for index in 0..<count { (cells + index).initialize(to: Atomic(0)) }
  }

  deinit { cells.deallocate() }

  @inline(__always)
  func record(_ operation: Operation, _ code: bp_code, elapsedNs: UInt64) {
    record(operation.rawValue, code, elapsedNs: elapsedNs)
  }

  @inline(__always)
  func record(_ operation: Int, _ code: bp_code, elapsedNs: UInt64) {
    let base = cells + operation * Statistics.stride
    (base + Statistics.bucket(elapsedNs)).pointee.add(1, ordering: .relaxed)
    (base + Statistics.bucketCount + min(Int(code), Statistics.codeCount - 1)).pointee.add(1, ordering: .relaxed)
    (base + Statistics.stride - 1).pointee.add(elapsedNs, ordering: .relaxed)
  }

  @inline(__always)
  static func bucket(_ elapsedNs: UInt64) -> Int {
    let magnitude = 64 - (elapsedNs >> 8).leadingZeroBitCount
    return min(magnitude, bucketCount - 1)
  }

  /// The upper bound of a bucket, in seconds.
  static func boundSeconds(_ bucket: Int) -> Double { Double(UInt64(256) << UInt64(bucket)) / 1e9 }

  /// Every count, for a kernel that goes on from here.
  var all: [UInt64] {
    (0..<operationCount * Statistics.stride).map { cells[$0].load(ordering: .relaxed) }
  }

  /// Adds what `all` was elsewhere; nothing when that counted other things.
  func add(_ counts: [UInt64]) {
    guard counts.count == operationCount * Statistics.stride else { return }
    for (index, count) in counts.enumerated() where count > 0 {
      (cells + index).pointee.add(count, ordering: .relaxed)
    }
  }

  struct Snapshot {
    var buckets: [UInt64]
    var codes: [UInt64]
    var sumNs: UInt64
    var sumSeconds: Double { Double(sumNs) / 1e9 }
    var count: UInt64 { buckets.reduce(0, +) }
  }

  func snapshot(_ operation: Operation) -> Snapshot { snapshot(operation.rawValue) }

  func snapshot(_ operation: Int) -> Snapshot {
    let base = operation * Statistics.stride
    func load(_ range: Range<Int>) -> [UInt64] { range.map { cells[base + $0].load(ordering: .relaxed) } }
    return Snapshot(
      buckets: load(0..<Statistics.bucketCount),
      codes: load(Statistics.bucketCount..<Statistics.bucketCount + Statistics.codeCount),
      sumNs: load(Statistics.stride - 1..<Statistics.stride)[0])
  }
}
