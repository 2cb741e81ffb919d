import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

/// Lists above two backends: when the page itself is asked for, and when everything is scanned.
struct ListWalkTests {
  private struct Page: Sendable, Equatable {
    var code: bp_code
    var uris: [String] = []
    var total: UInt64 = 0
    var message = ""
  }

  private struct Walk: @unchecked Sendable {
    // @unchecked: the node is used by the test's own thread; the rest is Sendable.
    let node = WalkNode()
    let near: ScriptedBackend
    let far: ScriptedBackend

    init(_ style: ScriptedBackend.Style, nearAnswersQueries: Bool = true, farAnswersQueries: Bool = true) {
      near = ScriptedBackend(style, answersQueries: nearAnswersQueries)
      far = ScriptedBackend(style, answersQueries: farAnswersQueries)
      node.publish(
        schema: node.instance("envelopes", .schema, ScriptedSchema()),
        backends: [node.instance("near", .backend, near), node.instance("far", .backend, far)])
    }

    func fill(_ backend: ScriptedBackend, _ numbers: Range<Int>) {
      for number in numbers { backend.put("acct://toy/a/\(number)", "1") }
    }

    /// Lists below acct://toy/a as a transport does.
    func list(
      page: UInt64 = 1, limit: UInt64 = 50, pattern: String = "", sort: UInt32 = BP_SORT_NONE, flags: UInt32 = 0
    ) -> Page? {
      let answer = Promise<Page>()
      let completion = bp_completion(
        context: Unmanaged.passRetained(answer).toOpaque(),
        complete: { context, result in
          let answer = Unmanaged<Promise<Page>>.fromOpaque(context!).takeRetainedValue()
          var page = Page(code: result!.pointee.code, message: result!.pointee.message.text)
          if page.code == BP_OK {
            let list = UnsafeRawPointer(result!).assumingMemoryBound(to: bp_list_result.self).pointee
            page.uris = (0..<Int(list.uris_count)).map { list.uris[$0].text }
            page.total = list.total
          }
          answer.set(page)
        }, chunk: nil)
      var call = bp_call()
      call.size = UInt32(MemoryLayout<bp_call>.size)
      let uri = Array("acct://toy/a".utf8)
      let text = Array(pattern.utf8)
      uri.withUnsafeBufferPointer { uri in
        text.withUnsafeBufferPointer { text in
          var request = bp_list(
            size: UInt32(MemoryLayout<bp_list>.size), flags: flags, uri: bp_view(uri), pattern: bp_view(text),
            sort: sort, reserved: 0, page: page, limit: limit)
          _ = NodeTable.pointer.pointee.list(node.caller.handle, &call, &request, completion)
        }
      }
      return answer.soon()
    }

    func expectNothingLeft() {
      #expect(eventually { node.context.requests.count == 0 && node.context.ring.leases(1) == 0 })
      #expect(eventually { node.caller.outgoing.load(ordering: .acquiring) == 0 })
      #expect(node.shutDown())
    }
  }

  private func uris(_ numbers: [Int]) -> [String] { numbers.map { "acct://toy/a/\($0)" } }

  @Test(arguments: [ScriptedBackend.Style.direct, .ownThread])
  func aPlainListIsAskedForByItself(_ style: ScriptedBackend.Style) {
    let walk = Walk(style)
    walk.fill(walk.near, 100..<350)
    #expect(walk.list(page: 3, limit: 20) == Page(code: BP_OK, uris: uris(Array(140..<160)), total: 250))
    #expect(walk.near.asked == [.init(prefix: "acct://toy/a/", offset: 40, limit: 20)])
    // Past the end the total is true.
    #expect(walk.list(page: 30, limit: 20) == Page(code: BP_OK, total: 250))
    #expect(walk.near.scans == 0 && walk.far.asked.isEmpty && walk.far.scans == 0)
    walk.expectNothingLeft()
  }

  /// A pattern and an order are the kernel's business, the same above every backend.
  @Test(arguments: [ScriptedBackend.Style.direct, .ownThread])
  func whatIsMatchedOrSortedIsScanned(_ style: ScriptedBackend.Style) {
    let walk = Walk(style)
    walk.fill(walk.near, 100..<350)
    #expect(walk.list(limit: 2, pattern: "7$") == Page(code: BP_OK, uris: uris([107, 117]), total: 25))
    #expect(walk.list(limit: 2, flags: BP_LIST_DESCENDING) == Page(code: BP_OK, uris: uris([349, 348]), total: 250))
    #expect(walk.list(limit: 2, sort: BP_SORT_NAME) == Page(code: BP_OK, uris: uris([100, 101]), total: 250))
    // An offset that cannot be counted.
    #expect(walk.list(page: .max, limit: 1000) == Page(code: BP_OK, total: 250))
    #expect(walk.near.asked.isEmpty && walk.near.scans == 4)
    walk.expectNothingLeft()
  }

  @Test(arguments: [ScriptedBackend.Style.direct, .ownThread])
  func aQueryThatIsNotCheaperIsAScan(_ style: ScriptedBackend.Style) {
    let walk = Walk(style)
    walk.fill(walk.near, 100..<350)
    walk.near.answerQueries(with: BP_UNIMPLEMENTED)
    #expect(walk.list(page: 2, limit: 20) == Page(code: BP_OK, uris: uris(Array(120..<140)), total: 250))
    #expect(walk.near.asked.count == 1 && walk.near.scans == 1)
    walk.expectNothingLeft()
  }

  /// The first backend with something below the URI answers, whichever way each of them is asked.
  @Test(arguments: [true, false], [true, false])
  func theFirstThatHasSomethingAnswers(_ near: Bool, _ far: Bool) {
    for style in [ScriptedBackend.Style.direct, .ownThread] {
      let walk = Walk(style, nearAnswersQueries: near, farAnswersQueries: far)
      #expect(walk.list() == Page(code: BP_OK))
      walk.fill(walk.far, 100..<103)
      #expect(walk.list(limit: 2) == Page(code: BP_OK, uris: uris([100, 101]), total: 3))
      #expect(walk.near.asked.count == (near ? 2 : 0) && walk.near.scans == (near ? 0 : 2))
      #expect(walk.far.asked.count == (far ? 2 : 0) && walk.far.scans == (far ? 0 : 2))
      // One that fails is passed over, and a scan that went before leaves nothing behind.
      walk.near.answerQueries(with: BP_UNAVAILABLE)
      #expect(walk.list(limit: 2) == Page(code: BP_OK, uris: uris([100, 101]), total: 3))
      walk.near.answerQueries(with: BP_OK)
      walk.fill(walk.near, 200..<201)
      #expect(walk.list() == Page(code: BP_OK, uris: uris([200]), total: 1))
      walk.expectNothingLeft()
    }
  }

  /// A long scan goes on elsewhere, and holds no more than the page asks for.
  @Test(arguments: [ScriptedBackend.Style.direct, .ownThread])
  func manyRecordsAreScannedPageByPage(_ style: ScriptedBackend.Style) {
    let walk = Walk(style, nearAnswersQueries: false)
    walk.fill(walk.near, 10_000..<13_000)
    #expect(
      walk.list(page: 2, limit: 3, sort: BP_SORT_NAME, flags: BP_LIST_DESCENDING)
        == Page(code: BP_OK, uris: uris([12_996, 12_995, 12_994]), total: 3000))
    #expect(walk.near.scans == 3)
    walk.expectNothingLeft()
  }
}
