import BackendTesting
import PluginAPI
import SQLiteBackend
import Testing

/// Counts and pages from the middle (backend_query.h); that they are what a scan gives is the conformance suite's.
@Suite struct QueryTests {
  private let scratch = ScratchDirectory()
  private let root = "mutable://open"

  private func started() throws -> TestBackend {
    // One reader for scans, so that what it has counted is asked for again.
    try TestBackend.started(SQLiteBackend.self, #"{"readers":1}"#, stateDirectory: scratch.path)
  }

  /// What was counted is kept until somebody writes: this instance, or another one on the same file.
  @Test func aTotalIsCountedAnewAfterEveryWrite() throws {
    let (first, second) = (try started(), try started())
    func expect(_ total: UInt64, _ items: [String]) {
      for backend in [first, second, first, second] {
        let page = backend.query("\(root)/a/", limit: 2)
        #expect(page.code == BP_OK && page.total == total)
        #expect(page.items.map(\.uri) == items.map { "\(root)/a/\($0)" })
      }
    }
    expect(0, [])
    #expect(first.apply(["2", "1", "3"].map { .put("\(root)/a/\($0)", [1], .bytes) }).code == BP_OK)
    expect(3, ["1", "2"])
    #expect(second.apply([.put("\(root)/a/0", [1], .bytes)]).code == BP_OK)
    expect(4, ["0", "1"])
    #expect(first.apply([.delete("\(root)/a/1"), .put("\(root)/ab", [1], .bytes)]).code == BP_OK)
    expect(3, ["0", "2"])
    // Another prefix has a total of its own.
    #expect(first.query("\(root)/").total == 4 && first.query("").total == 4 && first.query("x://y/").total == 0)
    expect(3, ["0", "2"])
  }

  @Test func pagesComeFromTheMiddle() throws {
    let backend = try started()
    let uris = (100..<400).map { "\(root)/\($0)" }
    #expect(backend.apply(uris.shuffled().map { .put($0, [1, 2], .bytes) }, timestampMs: 3, version: 4).code == BP_OK)
    // Page after page, from places that are known by then, and anywhere.
    let pages = (0..<31).map { ($0 * 10, 10) } + [(0, 1), (150, 100), (299, 5), (300, 5), (5000, 5), (10, 0), (95, 3)]
    for (offset, limit) in pages {
      let page = backend.query("\(root)/", offset: UInt64(offset), limit: UInt32(limit))
      #expect(page.total == 300)
      #expect(page.items.map(\.uri) == Array(uris.dropFirst(offset).prefix(limit)))
    }
    #expect(
      backend.query("\(root)/", limit: 1).items
        == [Answer.Item(uri: uris[0], timestampMs: 3, version: 4, sizeBytes: 2, content: BP_CONTENT_BYTES)])
    #expect(backend.query("\(root)/", offset: .max, limit: 5).total == 300)
    #expect(backend.query("\(root)/", limit: 65_536).code == BP_UNIMPLEMENTED)
  }
}
