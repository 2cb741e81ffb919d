import Foundation
import NodeTesting

/// Clients that write and delete, each its own records, and keep what was acknowledged last.
final class Writers: Sendable {
  struct Record: Sendable {
    /// The last acknowledged value; nil: deleted, or never written.
    var value: String?
    /// A write without an acknowledgement: the record may have this one too.
    var open: String?
  }

  private struct State {
    var records: [String: Record] = [:]
    var isEnding = false
    var acknowledged = 0
    var refused: [Int: Int] = [:]
    var troubles: [String] = []
  }

  private let state = Shared(State())
  private let threads = TestThreads()

  init(_ count: Int, port: Int) {
    for number in 0..<count { threads.start { self.run(number, port) } }
  }

  var acknowledged: Int { state.with { $0.acknowledged } }
  /// Answers other than 200, by status.
  var refused: [Int: Int] { state.with { $0.refused } }
  var troubles: [String] { state.with { $0.troubles } }
  /// By path, as in `/api/v1/read/<path>`.
  var records: [String: Record] { state.with { $0.records } }

  /// Waits until so many more writes have been acknowledged; false when that takes longer than a minute.
  func waitForMore(_ count: Int) -> Bool {
    let goal = acknowledged + count
    return Polling.until(seconds: 60) { acknowledged >= goal }
  }

  func end() -> Bool {
    state.with { $0.isEnding = true }
    return threads.join()
  }

  private func run(_ number: Int, _ port: Int) {
    var round = 0
    var connection: HTTPConnection?
    while !state.with({ $0.isEnding }) {
      round += 1
      let name = "mutable/open/writer-\(number)/\(round % 20)"
      let value: String? = round % 7 == 0 ? nil : "\(number * 1_000_000 + round)"
      do {
        let client = try connection ?? HTTPConnection(port: port)
        connection = client
        try step(client, name, value)
      } catch {
        state.with { $0.troubles.append("\(error)") }
        connection = nil
      }
    }
  }

  private func step(_ client: HTTPConnection, _ name: String, _ value: String?) throws {
    let before = state.with { $0.records[name] }
    // There is nothing to delete, or it is not known.
    if value == nil, before?.value == nil || before?.open != nil { return }
    let status: Int
    if let value {
      let uri = "mutable://open/" + name.dropFirst("mutable/open/".count)
      status = try client.post("/api/v1/receive", "{\"tx\":[\"\(uri)\",\(value)]}").status
    } else {
      status = try client.request("DELETE", "/api/v1/delete/\(name)").status
    }
    state.with { state in
      if status == 200 {
        state.records[name] = Record(value: value, open: nil)
        state.acknowledged += 1
      } else {
        state.refused[status, default: 0] += 1
        if let value { state.records[name, default: Record()].open = value }
      }
    }
  }
}
