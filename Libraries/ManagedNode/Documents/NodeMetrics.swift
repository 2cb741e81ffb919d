import JSONText

/// What a node measured of itself in one window of time.
public struct NodeMetrics: Equatable, Sendable {
  /// Milliseconds, with fractions; 0 when there was nothing to measure.
  public var writeLatencyP50Ms = 0.0
  public var writeLatencyP99Ms = 0.0
  public var readLatencyP50Ms = 0.0
  public var readLatencyP99Ms = 0.0
  /// Whole operations, writes and reads.
  public var opsPerSecond = 0.0
  /// From 0 to 1.
  public var errorRate = 0.0

  public init() {}

  /// Of what was counted in a window.
  public init(writes: CallCounts, reads: CallCounts, elapsedSeconds: Double) {
    writeLatencyP50Ms = writes.percentileMs(50)
    writeLatencyP99Ms = writes.percentileMs(99)
    readLatencyP50Ms = reads.percentileMs(50)
    readLatencyP99Ms = reads.percentileMs(99)
    let calls = Double(writes.calls) + Double(reads.calls)
    // As the reference: a window that has just begun counts as a second.
    opsPerSecond = (calls / max(1, elapsedSeconds)).rounded(.toNearestOrAwayFromZero)
    errorRate = calls > 0 ? (Double(writes.failures) + Double(reads.failures)) / calls : 0
  }

  /// The payload, keys in the reference's order.
  public var text: [UInt8] {
    var object = ObjectText()
    for (key, path) in Self.keys { object.add(key, self[keyPath: path]) }
    return object.text
  }

  // A key path to stored numbers holds nothing that could be shared.
  nonisolated(unsafe) private static let keys: [(String, WritableKeyPath<NodeMetrics, Double>)] = [
    ("writeLatencyP50", \.writeLatencyP50Ms), ("writeLatencyP99", \.writeLatencyP99Ms),
    ("readLatencyP50", \.readLatencyP50Ms), ("readLatencyP99", \.readLatencyP99Ms),
    ("opsPerSecond", \.opsPerSecond), ("errorRate", \.errorRate),
  ]

  // MARK: - Reading

  /// Everything by which `value` is no metrics, in the reference's order.
  public static func problems(in value: JSONSlice) -> [DocumentProblem] {
    guard value.isObject else { return [DocumentProblem(pointer: "", text: "metrics must be an object")] }
    var list = ProblemList()
    let numbers = numbers(in: value)
    for (key, _) in keys { list.require(numbers[key] != nil, "/\(key)", "\(key) must be a number") }
    return list.problems
  }

  /// Reads a document.
  public init(_ document: [UInt8]) throws(DocumentError) {
    self = try withDocument(document) { value in
      if let problem = Self.problems(in: value).first { return .failure(.rule(problem)) }
      return .success(NodeMetrics(valid: value))
    }
  }

  /// `value` must have no problems.
  init(valid value: JSONSlice) {
    let numbers = Self.numbers(in: value)
    for (key, path) in Self.keys { self[keyPath: path] = numbers[key] ?? 0 }
  }

  private static func numbers(in value: JSONSlice) -> [String: Double] {
    var numbers: [String: Double] = [:]
    for (key, value) in value.members {
      guard let name = key.text else { continue }
      numbers[name] = value.number
    }
    return numbers
  }
}
