import JSONText
import ManagedNode

/// The node at which configurations are kept, from an operator's side.
struct ConfigServer: Sendable {
  let client: NodeClient

  /// The record; nil when there is none.
  func read(_ uri: String) async throws -> RecordAnswer? {
    let response = try await client.send(.GET, "/api/v1/read" + RecordPath.path(of: uri))
    if response.status == 404 { return nil }
    guard response.status == 200 else { throw response.failure("\(uri) cannot be read") }
    guard response.isJSON, let answer = RecordAnswer(body: response.body) else {
      throw CommandFailure(.internal, "what the node answers for \(uri) is no record as JSON.")
    }
    return answer
  }

  /// Writes `data`, which is JSON, and reads it back.
  func write(_ data: [UInt8], to uri: String) async throws {
    var body = Array(#"{"tx":["#.utf8)
    JSONWriter.appendString(uri, to: &body)
    body.append(UInt8(ascii: ","))
    body += data + Array("]}".utf8)
    let response = try await client.send(.POST, "/api/v1/receive", body: body)
    guard response.status == 200, JSONValue.parse(response.body)?["accepted"] == .bool(true) else {
      throw response.failure("the config server did not accept \(uri)")
    }
    guard let answer = try await read(uri) else {
      throw CommandFailure(.internal, "the config server accepted \(uri) and does not have it.")
    }
    // As a signature sees it: order counts, white space does not.
    guard Self.signedText(answer.data) == Self.signedText(data) else {
      throw CommandFailure(
        .internal,
        "the config server accepted \(uri) and gives something else back, whose signature may not hold. Does another "
          + "operator write there, or does its backend reorder what it stores?")
    }
  }

  static func signedText(_ json: [UInt8]) -> [UInt8]? { RawJSON(json)?.withSlice { try? CanonicalText.signing($0) } }

  /// Waits until the node is healthy.
  func waitUntilHealthy(timeoutMs: Int) async throws {
    let deadline = ContinuousClock.now + .milliseconds(timeoutMs)
    while true {
      if let response = try? await client.send(.GET, "/api/v1/health"), response.status == 200 { return }
      guard ContinuousClock.now < deadline else {
        throw CommandFailure(
          .unavailable, "the config server at \(client.host):\(client.port) is not healthy after \(timeoutMs) ms.")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }
}
