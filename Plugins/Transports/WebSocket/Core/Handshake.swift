import NIOCore
import NIOHTTP1
import NIOWebSocket

/// The server's half of the opening handshake (RFC 6455 section 4.2).
public enum WebSocketHandshake {
  /// Why a request to upgrade is refused.
  public struct Refusal: Error, Equatable, Sendable {
    public var status: Int
    /// One sentence for the client.
    public var text: String
    /// The protocol or its version has to be named in the answer: 426.
    public var namesVersion: Bool
  }

  /// Whether a request asks for this protocol: `upgrade: websocket` and `connection: upgrade`, however they are spelled.
  public static func isAskedFor(_ headers: HTTPHeaders) -> Bool {
    headers[canonicalForm: "upgrade"].contains { $0.utf8.elementsEqualIgnoringCase("websocket") }
      && headers[canonicalForm: "connection"].contains { $0.utf8.elementsEqualIgnoringCase("upgrade") }
  }

  /// The bytes of the 101 answer, or why there is none.
  /// - Parameter head: nil: the request asked for no upgrade.
  public static func answer(
    _ head: HTTPRequestHead?, limits: WebSocketLimits, channel: any Channel
  ) -> Result<ByteBuffer, Refusal> {
    guard let head, head.method == .GET, head.version == .http1_1, isAskedFor(head.headers) else {
      return .failure(
        Refusal(
          status: 426, text: "This is a WebSocket endpoint: connect with a WebSocket client.", namesVersion: true))
    }
    guard limits.origins.allows(head.headers.first(name: "origin")) else {
      return .failure(
        Refusal(status: 403, text: "Connections from pages of this origin are not allowed.", namesVersion: false))
    }
    guard head.headers.first(name: "sec-websocket-version") == "13" else {
      return .failure(
        Refusal(status: 426, text: "The only version of WebSocket spoken here is 13.", namesVersion: true))
    }
    // Sixteen bytes in Base64.
    guard let key = head.headers.first(name: "sec-websocket-key"), key.utf8.count == 24, key.hasSuffix("==") else {
      return .failure(Refusal(status: 400, text: "The header sec-websocket-key is not valid.", namesVersion: false))
    }
    let upgrader = NIOWebSocketServerUpgrader(
      shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture(HTTPHeaders()) },
      upgradePipelineHandler: { channel, _ in channel.eventLoop.makeSucceededVoidFuture() })
    var built: HTTPHeaders?
    // Everything in it is on this loop already: it completes before `whenSuccess` returns.
    upgrader.buildUpgradeResponse(channel: channel, upgradeRequest: head, initialResponseHeaders: HTTPHeaders())
      .assumeIsolated().whenSuccess { built = $0 }
    guard let built else {
      return .failure(
        Refusal(status: 400, text: "The request to upgrade has more than one key or version.", namesVersion: false))
    }
    var bytes = channel.allocator.buffer(capacity: 160)
    bytes.writeStaticString("HTTP/1.1 101 Switching Protocols\r\n")
    for (name, value) in built { bytes.writeString("\(name.lowercased()): \(value)\r\n") }
    bytes.writeStaticString("\r\n")
    return .success(bytes)
  }
}

extension Sequence where Element == UInt8 {
  /// Whether these bytes are `text`, which is in lower case, but for the case of their letters.
  fileprivate func elementsEqualIgnoringCase(_ text: String) -> Bool {
    elementsEqual(text.utf8) { left, right in (left >= 0x41 && left <= 0x5A ? left | 0x20 : left) == right }
  }
}
