import BackendTesting
import MemoryBackend
import PluginAPI
import Testing

/// Counts and pages from the middle (backend_query.h); that they are what a scan gives is the conformance suite's.
@Suite struct QueryTests {
  private let root = "mutable://open"

  private func filled(_ count: Int) throws -> TestBackend {
    let backend = try TestBackend.started(MemoryBackend.self)
    for first in stride(from: 0, to: count, by: 1000) {
      let ops = (first..<min(count, first + 1000)).map { Op.put("\(root)/list/\($0)", [1], .bytes) }
      #expect(backend.apply(ops).code == BP_OK)
    }
    return backend
  }

  private func uris(_ numbers: Range<Int>) -> [String] { numbers.map { "\(root)/list/\($0)" } }

  /// However far in: the place is known, not walked to.
  @Test func aFlatCollectionIsEnteredAnywhere() throws {
    let backend = try filled(30_000)
    for offset in [0, 1, 9_999, 20_000, 29_995] as [UInt64] {
      let page = backend.query("\(root)/list/", offset: offset, limit: 5)
      #expect(page.code == BP_OK && page.total == 30_000)
      #expect(page.items.map(\.uri) == uris(Int(offset)..<Int(offset) + 5))
    }
    // Past the end there is nothing, and the total is true.
    let past = backend.query("\(root)/list/", offset: .max, limit: 5)
    #expect(past.code == BP_OK && past.items.isEmpty && past.total == 30_000)
    #expect(backend.query("\(root)/", limit: 0).total == 30_000)
    #expect(backend.query("", limit: 0).total == 30_000)
    #expect(backend.query("\(root)/none/").total == 0)
    #expect(backend.query("link://other/").total == 0)
  }

  /// What would take a long walk under the lock is left to a scan, which lets go in between.
  @Test func whatIsFarInAmongGapsIsLeftToAScan() throws {
    let backend = try filled(30_000)
    #expect(backend.apply([.delete("\(root)/list/7")]).code == BP_OK)
    let near = backend.query("\(root)/list/", offset: 7, limit: 2)
    #expect(near.code == BP_OK && near.total == 29_999 && near.items.map(\.uri) == uris(8..<10))
    let far = backend.query("\(root)/list/", offset: 20_000, limit: 2)
    #expect(far.code == BP_UNIMPLEMENTED)
    // So is a prefix in the middle of a segment, and a page longer than is given under the lock.
    #expect(backend.query("\(root)/list").code == BP_UNIMPLEMENTED)
    #expect(backend.query("\(root)/list/", limit: 65_536).code == BP_UNIMPLEMENTED)
  }

  @Test func theTotalFollowsEveryChange() throws {
    let backend = try TestBackend.started(MemoryBackend.self)
    func total(_ prefix: String) -> UInt64 { backend.query(prefix, limit: 0).total }
    // A record is not below itself; what lies below it is.
    #expect(backend.apply([.put("\(root)/a", [1], .bytes), .put("\(root)/a/b/c", [1], .bytes)]).code == BP_OK)
    #expect(total("\(root)/") == 2 && total("\(root)/a/") == 1 && total("\(root)/a/b/") == 1)
    #expect(backend.apply([.put("\(root)/a", [2], .bytes), .put("\(root)/a/b/c", [2], .bytes)]).code == BP_OK)
    #expect(total("\(root)/") == 2)
    #expect(backend.apply([.delete("\(root)/a")]).code == BP_OK)
    #expect(total("\(root)/") == 1 && total("\(root)/a/") == 1)
    #expect(backend.apply([.put("\(root)/a/b/d", [1], .bytes), .delete("\(root)/a/b/c")]).code == BP_OK)
    #expect(total("\(root)/a/b/") == 1 && backend.query("\(root)/").items.map(\.uri) == ["\(root)/a/b/d"])
    #expect(backend.apply([.delete("\(root)/a/b/d")]).code == BP_OK)
    #expect(total("\(root)/") == 0 && total("") == 0)
  }
}
