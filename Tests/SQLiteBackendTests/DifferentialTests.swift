import BackendSupport
import BackendTesting
import MemoryBackend
import PluginAPI
import SQLiteBackend
import Testing

/// What a backend should do, in the plainest way.
private struct Model {
  var records: [String: Record] = [:]

  mutating func apply(_ ops: [Op], timestampMs: UInt64, version: UInt64) -> (code: bp_code, failedOp: Int, absent: Int)
  {
    var next = records
    var absent = 0
    for (index, op) in ops.enumerated() {
      guard op.condition.holds(for: next[op.uri]?.version) else { return (BP_FAILED_PRECONDITION, index, 0) }
      switch op.verb {
      case .put(let data, let content):
        next[op.uri] = Record(data: data, content: content, timestampMs: timestampMs, version: version)
      case .delete: if next.removeValue(forKey: op.uri) == nil { absent += 1 }
      }
    }
    records = next
    return (BP_OK, 0, absent)
  }
}

@Suite struct DifferentialTests {
  @Test(arguments: [1, 2, 3, 4] as [UInt64]) func bothBackendsDoAsTheModel(_ seed: UInt64) throws {
    let scratch = ScratchDirectory()
    var random = SeededGenerator(seed: seed)
    var model = Model()
    let memory = try TestBackend.started(MemoryBackend.self)
    let sqlite = try TestBackend.started(SQLiteBackend.self, #"{"durability":"os"}"#, stateDirectory: scratch.path)
    let names = ["a", "b", "a/a", "a/b", "a/b/c", "ab", "a%20b", "b/c/d/e", "", "z"]
    let uris = ["mutable://open", "link://open"].flatMap { program in
      names.map { $0.isEmpty ? program : "\(program)/\($0)" }
    }
    for step in 1...400 {
      let version = UInt64(step)
      let ops = (0..<Int.random(in: 1...4, using: &random)).map { _ -> Op in
        let uri = uris.randomElement(using: &random)!
        let condition: Condition =
          switch Int.random(in: 0..<8, using: &random) {
          case 0: .absent
          case 1: .present
          case 2: .version(model.records[uri]?.version ?? 1)
          default: .any
          }
        if Int.random(in: 0..<3, using: &random) == 0 { return .delete(uri, if: condition) }
        let data = (0..<Int.random(in: 0...50, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        return .put(uri, data, Bool.random(using: &random) ? .json : .bytes, if: condition)
      }
      let wanted = model.apply(ops, timestampMs: version * 10, version: version)
      for backend in [memory, sqlite] {
        let answer = backend.apply(ops, timestampMs: version * 10, version: version)
        #expect(answer.code == wanted.code && answer.failedOp == wanted.failedOp && answer.absentCount == wanted.absent)
        let uri = uris.randomElement(using: &random)!
        #expect(backend.read(uri).record == model.records[uri])
      }
      guard step % 10 == 0 else { continue }
      let prefix = ["", "mutable://", "mutable://open/", "mutable://open/a", "mutable://open/a/", "link://open/b"]
        .randomElement(using: &random)!
      let listed = model.records.keys.filter { $0.hasPrefix(prefix) }.sorted()
      let limit = Int.random(in: 1...9, using: &random)
      #expect(sqlite.scan(prefix, limit: limit) == listed)
      #expect(memory.scan(prefix, limit: limit).sorted() == listed)
    }
    // After all that, the sizes and stamps of every item.
    for backend in [memory, sqlite] {
      for item in backend.page("", limit: 1_000).items {
        let record = try #require(model.records[item.uri])
        #expect(item.timestampMs == record.timestampMs && item.version == record.version)
        #expect(item.sizeBytes == UInt64(record.data.count) && item.content == record.content.rawValue)
      }
    }
  }
}
