import BackendTesting
import Foundation
import HTTPBackend
import PluginAPI
import Testing

extension TestBackend {
  /// Started on a remote at `url`; `more` are further keys, as JSON members.
  static func http(_ url: String, _ more: String = "") throws -> TestBackend {
    try started(HTTPBackend.self, #"{"url":"\#(url)","timeout_ms":60000\#(more.isEmpty ? "" : ",\(more)")}"#)
  }

  /// What `configure` refuses.
  static func refusal(_ configuration: String) -> [String] {
    do {
      _ = try TestBackend(HTTPBackend.self, configuration)
      return []
    } catch {
      return (error as? Refused)?.lines ?? ["\(error)"]
    }
  }

  /// What `start` refuses.
  static func startRefusal(_ url: String, _ more: String = "") -> String? {
    do {
      _ = try http(url, more)
      return nil
    } catch {
      return "\(error)"
    }
  }
}

/// Waits until `condition` holds; an issue when it does not within a minute.
func eventually(_ what: Comment, _ condition: () -> Bool, sourceLocation: SourceLocation = #_sourceLocation) {
  let end = ContinuousClock.now + .seconds(60)
  while !condition() {
    guard ContinuousClock.now < end else {
      Issue.record(what, sourceLocation: sourceLocation)
      return
    }
    usleep(5_000)
  }
}

/// A port that nobody listens on.
func deadPort() throws -> Int {
  let node = try FakeNode { _ in .close }
  defer { node.stop() }
  return node.port
}

/// What a node answers when it has kept records in memory: enough of the contract for round trips.
final class FakeRecords: @unchecked Sendable {
  // @unchecked: guarded by `lock`.
  private let lock = NSLock()
  private var records: [String: String] = [:]

  func reply(_ asked: FakeNode.Asked) -> FakeNode.Reply {
    lock.withLock {
      if asked.method == "POST" {
        let body = (try? JSONSerialization.jsonObject(with: Data(asked.body))) as? [String: Any]
        guard let uri = (body?["tx"] as? [Any])?.first as? String else { return .answer(400, "{}") }
        let data = asked.text.dropFirst(#"{"tx":["\#(uri)","#.count).dropLast(2)
        records[uri] = String(data)
        return .answer(200, #"{"accepted":true}"#)
      }
      let parts = asked.path.split(separator: "/", maxSplits: 5, omittingEmptySubsequences: true)
      let uri = "\(parts[3])://\(parts[4])" + (parts.count > 5 ? "/\(parts[5])" : "")
      if asked.method == "DELETE" {
        return records.removeValue(forKey: uri) == nil
          ? .answer(404, #"{"success":false,"error":"Not found"}"#) : .answer(200, #"{"success":true}"#)
      }
      guard let data = records[uri] else { return .answer(404, #"{"error":"Not found"}"#) }
      return .answer(200, #"{"ts":5,"data":\#(data)}"#)
    }
  }
}
