import JSONText
import ManagedNode
import MessageCrypto

/// Reads and writes the documents by which nodes are managed, at the node that keeps them.
struct DocumentClient: Sendable {
  let node: NodeClient

  /// What the node has at the document's URI; nil: nothing.
  func read(_ document: ManagedDocument) async throws -> RecordAnswer? {
    let response = try await node.send(.GET, "/api/v1/read" + RecordPath.path(of: document.uri))
    if response.status == 404 { return nil }
    guard response.status == 200 else { throw response.failure("\(document.uri) cannot be read") }
    guard let answer = RecordAnswer(body: response.body) else {
      throw CommandFailure(.refused, "what the node has at \(document.uri) is no record in JSON.")
    }
    return answer
  }

  /// As above, opened; what is missing or cannot be opened is an error.
  func open(
    _ document: ManagedDocument, decryptionKey: X25519.KeyPair?
  ) async throws -> (opened: ManagedDocument.Opened, timestampMs: Int64) {
    guard let answer = try await read(document) else { throw CommandFailure(document.missing) }
    do throws(ManagedMessageError) {
      return (try document.open(answer.data, decryptionKey: decryptionKey), answer.timestampMs)
    } catch { throw CommandFailure(error) }
  }

  /// Writes a sealed message and reads it back; the time of the record, in milliseconds since 1970.
  func publish(_ message: [UInt8], at document: ManagedDocument) async throws -> Int64 {
    var body = Array(#"{"tx":["#.utf8)
    JSONWriter.appendString(document.uri, to: &body)
    body += [UInt8(ascii: ",")] + message + Array("]}".utf8)
    let response = try await node.send(.POST, "/api/v1/receive", body: body)
    guard response.status == 200, JSONValue.parse(response.body)?["accepted"] == .bool(true) else {
      throw response.failure("the node did not accept \(document.uri)")
    }
    guard let answer = try await read(document) else {
      throw CommandFailure(.refused, "the node accepted \(document.uri), and has nothing there.")
    }
    guard Self.isSame(answer.data, as: message) else {
      throw CommandFailure(
        .refused,
        "the node accepted \(document.uri), and has another message there: somebody else wrote it at the same time, or "
          + "the node does not keep the order of members, and then no signature holds there.")
    }
    return answer.timestampMs
  }

  /// Whether a record says what was sent, so that its signatures hold: a sealed message is printed for signing already.
  private static func isSame(_ data: [UInt8], as message: [UInt8]) -> Bool {
    var text: [UInt8] = []
    do {
      try data.withUnsafeBytes { try CanonicalText.append($0, order: .signing, to: &text) }
    } catch { return false }
    return text == message
  }
}

extension CommandFailure {
  init(_ error: ManagedMessageError) {
    switch error.reason {
    case .notSealed, .tooLarge: self.init(.usage, "\(error)")
    default: self.init(.refused, "\(error)")
    }
  }
}
