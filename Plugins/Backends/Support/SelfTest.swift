import PluginAPI

/// What a self-test can ask of a store.
public struct SelfTestStore {
  public var apply: (LocalUnit) throws -> UnitOutcome
  public var read: (String) throws -> Record?
  /// The URIs below a prefix, in the store's order, over all pages.
  public var scan: (String) throws -> [String]

  public init(
    apply: @escaping (LocalUnit) throws -> UnitOutcome, read: @escaping (String) throws -> Record?,
    scan: @escaping (String) throws -> [String]
  ) {
    self.apply = apply
    self.read = read
    self.scan = scan
  }

  /// Writes, reads, scans and deletes; throws a `Failure` that names the first step that went wrong.
  public func run() throws {
    func check(_ condition: Bool, _ step: String) throws {
      guard condition else { throw Failure.internal("the self-test failed: \(step)") }
    }
    let uri = "mutable://self-test/a/b"
    let text = Array(#"{"text":"é\u0000"}"#.utf8)
    let bytes: [UInt8] = [0, 1, 0xff, 0]
    let put = LocalUnit(
      [.put(uri, text, .json, if: .absent), .put("\(uri)/c", bytes, .bytes)], timestampMs: 1_700_000_000_000, version: 7
    )
    try check(apply(put) == .applied(absentCount: 0), "a unit of two puts was not applied")
    try check(
      read(uri) == Record(data: text, content: .json, timestampMs: 1_700_000_000_000, version: 7),
      "a record was not read as it was written")
    try check(read("\(uri)/c")?.data == bytes, "bytes were not read as they were written")
    try check(apply(put) == .preconditionFailed(op: 0), "a write-once unit was applied twice")
    try check(scan("mutable://self-test/") == [uri, "\(uri)/c"], "a scan did not list what was written")
    let delete = LocalUnit([.delete(uri), .delete("\(uri)/d")], timestampMs: 1_700_000_000_001, version: 8)
    try check(apply(delete) == .applied(absentCount: 1), "a unit of two deletes was not applied")
    try check(read(uri) == nil, "a record was read after it was deleted")
    try check(scan("mutable://self-test/") == ["\(uri)/c"], "a scan listed what was deleted")
  }
}

/// A unit made of values, with the views that the boundary would give.
public final class LocalUnit: OpList, @unchecked Sendable {
  // @unchecked: nothing is changed after init.
  public let timestampMs: UInt64
  public let version: UInt64
  /// As the boundary would give them; valid as long as this object.
  public let rawOps: UnsafePointer<bp_op>
  private let opsCount: Int
  private var storage: [UnsafeMutableBufferPointer<UInt8>] = []

  public init(_ ops: [Op], timestampMs: UInt64, version: UInt64) {
    self.timestampMs = timestampMs
    self.version = version
    let list = UnsafeMutablePointer<bp_op>.allocate(capacity: max(1, ops.count))
    rawOps = UnsafePointer(list)
    opsCount = ops.count
    for (index, op) in ops.enumerated() {
      var raw = bp_op()
      raw.size = .size(of: bp_op.self)
      switch op.condition {
      case .any: raw.condition = BP_IF_ANY
      case .absent: raw.condition = BP_IF_ABSENT
      case .present: raw.condition = BP_IF_PRESENT
      case .version(let version):
        raw.condition = BP_IF_VERSION
        raw.if_version = version
      }
      raw.uri = keep(Array(op.uri.utf8))
      switch op.verb {
      case .put(let data, let content):
        raw.verb = BP_VERB_PUT
        raw.content = content.rawValue
        raw.data = keep(data)
      case .delete: raw.verb = BP_VERB_DELETE
      }
      (list + index).initialize(to: raw)
    }
  }

  deinit {
    for buffer in storage { buffer.deallocate() }
    rawOps.deallocate()
  }

  public var count: Int { opsCount }
  public subscript(index: Int) -> bp_op { rawOps[index] }

  private func keep(_ bytes: [UInt8]) -> bp_view {
    let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
    _ = buffer.initialize(from: bytes)
    storage.append(buffer)
    return bp_view(BorrowedBytes(buffer))
  }
}
