import PluginAPI
import PluginTestHost
import Testing

@testable import SwiftBackend

@Suite struct SwiftBackendTests {
  /// A started instance.
  func makeHost() async throws -> TestHost {
    let host = try TestHost(entry: plugin.pointer, configuration: #"{"url": "swift-backend://"}"#)
    try await host.start()
    return host
  }

  @Test func aRecordIsReadAsWrittenAndDeleted() async throws {
    let host = try await makeHost()
    try await host.apply(.put("mutable://open/a", Array("1".utf8)), version: 7)
    let record = try #require(await host.read("mutable://open/a"))
    #expect(record.data == Array("1".utf8))
    #expect(record.version == 7)
    let deleted = try await host.apply(.delete("mutable://open/a"), .delete("mutable://open/b"))
    #expect(deleted.absentCount == 1)
    #expect(try await host.read("mutable://open/a") == nil)
    try await host.stop()
    #expect(host.violations.isEmpty)
  }

  @Test func aUnitIsAppliedWholeOrNotAtAll() async throws {
    let host = try await makeHost()
    await #expect(throws: PreconditionFailed.self) {
      try await host.apply(.put("mutable://open/a", [1]), .put("mutable://open/b", [2], if: .present))
    }
    #expect(try await host.read("mutable://open/a") == nil)
  }

  @Test func aScanGivesEveryRecordBelowThePrefixOnce() async throws {
    let host = try await makeHost()
    for number in 0..<25 { try await host.apply(.put("mutable://open/a/\(number)", [])) }
    try await host.apply(.put("mutable://open/b", []))
    let uris = try await host.scan(prefix: "mutable://open/a/", pageSize: 10).map(\.uri)
    #expect(Set(uris).count == 25 && uris.count == 25)
  }

  @Test func aSuccessorHasEveryRecord() async throws {
    let (old, new) = (try await makeHost(), try await makeHost())
    for uri in ["mutable://open/a", "mutable://open/b"] { try await old.apply(.put(uri, [1])) }
    try await old.handOverState(to: new) {
      // What is written while it is handed over.
      try await old.apply(.delete("mutable://open/a"), .put("mutable://open/c", [2], .bytes))
    }
    #expect(try await new.scan().map(\.uri) == ["mutable://open/b", "mutable://open/c"])
    #expect(try await new.read("mutable://open/c")?.data == [2])
  }

  @Test func anUnknownKeyIsRefusedByName() throws {
    #expect(throws: TestHostError.self) { try TestHost(entry: plugin.pointer, configuration: #"{"pth": "x"}"#) }
  }
}
