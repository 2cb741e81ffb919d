import BackendTesting
import Foundation
import HTTPBackend
import PluginAPI
import Synchronization
import Testing

/// Lists of a remote that gives out pages by number.
@Suite struct ScanTests {
  /// Answers lists like a node does, from records that may change between two requests.
  private final class Shelf: Sendable {
    struct State {
      var uris: Set<String>
      /// The most that the remote puts on one page.
      var limitMax: Int
      /// Called before each answer, with its number.
      var change: @Sendable (Int, inout Set<String>) -> Void
      var count = 0
    }
    let state: Mutex<State>

    init(
      _ uris: [String], limitMax: Int = .max,
      change: @escaping @Sendable (Int, inout Set<String>) -> Void = { _, _ in }
    ) {
      state = Mutex(State(uris: Set(uris), limitMax: limitMax, change: change))
    }

    func reply(_ asked: FakeNode.Asked) -> FakeNode.Reply {
      state.withLock { state in
        state.change(state.count, &state.uris)
        state.count += 1
        let items = URLComponents(string: "http://x\(asked.target)")!.queryItems ?? []
        func number(_ name: String) -> Int { items.first { $0.name == name }.flatMap { Int($0.value!) } ?? 1 }
        let parts = asked.path.split(separator: "/")
        let base = "\(parts[3])://\(parts[4...].joined(separator: "/"))/"
        let limit = min(number("limit"), state.limitMax)
        // Digits alone: here names sort as bytes do.
        let found = state.uris.filter { $0.hasPrefix(base) }.sorted()
        let page = found.dropFirst((number("page") - 1) * limit).prefix(limit)
        let data = page.map { #"{"uri":"\#($0)"}"# }.joined(separator: ",")
        return .answer(
          200,
          #"{"success":true,"data":[\#(data)],"pagination":{"page":\#(number("page")),"limit":\#(limit),"total":\#(found.count)}}"#
        )
      }
    }
  }

  private static func name(_ number: Int) -> String { "mutable://open/d/\(100_000 + number)" }

  @Test func onePageOfARemoteThatAllowsIt() throws {
    let shelf = Shelf((0..<250).map(Self.name) + ["mutable://open/e/1", "link://open/d/1"])
    let node = try FakeNode { shelf.reply($0) }
    let backend = try TestBackend.http(node.url)
    #expect(backend.scan("mutable://open/d/", limit: 100) == (0..<250).map(Self.name))
    // One request for all three pages.
    #expect(node.asked.map(\.target) == ["/api/v1/list/mutable/open/d?page=1&limit=100001&sortBy=name"])
    #expect(backend.scan("mutable://open/d/10024") == (240..<250).map(Self.name))
    #expect(backend.scan("mutable://open/").count == 251)
    #expect(backend.scan("mutable://open/x/") == [])
  }

  @Test func windowsOfARemoteThatAllowsLess() throws {
    for (count, limit) in [(11, 10), (100, 10), (1_000, 37), (997, 100), (64, 64), (65, 64), (59, 5)] {
      let shelf = Shelf((0..<count).map(Self.name), limitMax: limit)
      let node = try FakeNode { shelf.reply($0) }
      let backend = try TestBackend.http(node.url)
      #expect(backend.scan("mutable://open/d/", limit: 300) == (0..<count).map(Self.name), "\(count) by \(limit)")
    }
  }

  @Test func aRemoteThatAllowsTooLittle() throws {
    let shelf = Shelf((0..<20).map(Self.name), limitMax: 1)
    let node = try FakeNode { shelf.reply($0) }
    let answer = try TestBackend.http(node.url).page("mutable://open/d/")
    #expect(answer.code == BP_UNAVAILABLE && answer.message.contains("too few"), "\(answer.message)")
  }

  /// A record that exists throughout is seen exactly once, whatever comes and goes between two requests.
  @Test func windowsWhileRecordsComeAndGo() throws {
    let stayers = stride(from: 0, to: 900, by: 3).map(Self.name)
    let leavers = stride(from: 1, to: 900, by: 3).map(Self.name)
    for seed in 0..<20 as Range<UInt64> {
      let random = Mutex(SeededGenerator(seed: seed))
      let shelf = Shelf(stayers + leavers, limitMax: 100) { number, uris in
        random.withLock { random in
          for _ in 0..<8 {
            if let gone = leavers.randomElement(using: &random) { uris.remove(gone) }
            if number < 60 { uris.insert(Self.name(Int.random(in: 0..<300, using: &random) * 3 + 2)) }
          }
        }
      }
      let node = try FakeNode { shelf.reply($0) }
      let backend = try TestBackend.http(node.url)
      let seen = backend.scan("mutable://open/d/", limit: 70)
      #expect(Set(seen).count == seen.count, "seed \(seed)")
      #expect(Set(stayers).subtracting(seen).isEmpty, "seed \(seed)")
    }
  }

  /// More goes at once than the windows overlap: what lies between is not passed over in silence.
  @Test func windowsThatComeApartAreAskedForAgain() throws {
    let leavers = (0..<80).map(Self.name)
    let stayers = (80..<400).map(Self.name)
    let shelf = Shelf(leavers + stayers, limitMax: 100) { number, uris in
      if number == 1 { uris.subtract(leavers) }
    }
    let node = try FakeNode { shelf.reply($0) }
    let backend = try TestBackend.http(node.url)
    #expect(Set(backend.scan("mutable://open/d/")).isSuperset(of: stayers))
    // And when it never ends, that is said.
    let restless = Shelf(leavers + stayers, limitMax: 100) { number, uris in
      uris = Set((0..<400).map { Self.name($0 + (number % 2 == 0 ? 0 : 5_000)) })
    }
    let other = try FakeNode { restless.reply($0) }
    let answer = try TestBackend.http(other.url).page("mutable://open/d/")
    #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable && answer.message.contains("change faster"))
  }

  @Test func aListIsBounded() throws {
    let shelf = Shelf((0..<250).map(Self.name))
    let node = try FakeNode { shelf.reply($0) }
    let backend = try TestBackend.http(node.url, #""scan_uris_max":100"#)
    let answer = backend.page("mutable://open/d/")
    #expect(answer.code == BP_RESOURCE_EXHAUSTED && answer.message.contains("scan_uris_max"), "\(answer.message)")
    #expect(answer.message.contains("250"))
  }

  @Test func aScanOverAllProgramsIsRefused() throws {
    let node = try FakeNode { _ in .answer(500, "{}") }
    let backend = try TestBackend.http(node.url)
    for prefix in ["", "m", "mutable://", "mutable://open", "mutable:///"] {
      let answer = backend.page(prefix)
      #expect(answer.code == BP_UNIMPLEMENTED && answer.message.contains("one program at a time"), "\(prefix)")
    }
    #expect(node.asked.isEmpty)
  }

  @Test func whatIsNoListIsAFailure() throws {
    for reply in [
      FakeNode.Reply.answer(200, "[]"), .answer(200, #"{"success":true,"data":[{"u":1}],"pagination":{}}"#),
      .answer(503, #"{"error":"later"}"#), .answer(404, "404 Not Found", headers: [("content-type", "text/plain")]),
    ] {
      let node = try FakeNode { _ in reply }
      let answer = try TestBackend.http(node.url).page("mutable://open/")
      #expect(answer.code == BP_UNAVAILABLE && !answer.message.isEmpty)
    }
  }

  /// One page from the middle and the total, in one request.
  @Test func queries() throws {
    let shelf = Shelf((0..<250).map(Self.name), limitMax: 100)
    let node = try FakeNode { shelf.reply($0) }
    let backend = try TestBackend.http(node.url)
    let page = backend.query("mutable://open/d/", offset: 100, limit: 50)
    #expect(page.items.map(\.uri) == (100..<150).map(Self.name) && page.total == 250)
    let last = backend.query("mutable://open/d/", offset: 200, limit: 100)
    #expect(last.items.map(\.uri) == (200..<250).map(Self.name) && last.total == 250)
    let total = backend.query("mutable://open/d/", offset: 0, limit: 0)
    #expect(total.items.isEmpty && total.total == 250)
    #expect(node.asked.count == 3)
    // Neither on a page of its own, nor more than the remote gives out.
    for (offset, limit) in [(70, 50), (0, 101)] as [(UInt64, UInt32)] {
      #expect(backend.query("mutable://open/d/", offset: offset, limit: limit).code == BP_UNIMPLEMENTED)
    }
  }
}
