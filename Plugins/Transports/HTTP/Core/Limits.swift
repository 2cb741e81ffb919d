import PluginAPI
import WebSocketTransport

/// The bounds of this transport, checked. Every one that is hit is answered with a sentence and counted.
struct Limits: Sendable {
  var loops = 1
  var corsOrigin = "*"
  /// Bytes of one request body, after chunked decoding.
  var bodySizeBytesMax = 16 << 20
  /// Bytes of all request bodies that are being received at one moment, over all connections.
  var bodiesSizeBytesMax = 256 << 20
  /// Bytes of all header fields of one request.
  var headerSizeBytesMax = 32 << 10
  /// Bytes of one request target.
  var uriSizeBytesMax = 8 << 10
  var jsonDepthMax = 512
  var headerTimeoutMs = 10_000
  var bodyTimeoutMs = 60_000
  var idleTimeoutMs = 75_000
  var writeTimeoutMs = 30_000
  var requestTimeoutMs = 30_000
  var lingerTimeoutMs = 2_000
  var connectionsMax = 12_000
  /// Requests of one connection that may wait behind the one that is being answered.
  var pipelinedRequestsMax = 128
  /// Bytes of the records in one read-multi answer.
  var readMultiSizeBytesMax = 64 << 20
  /// Of the connections that become WebSocket; nil: none does.
  var webSocket: WebSocketLimits? = WebSocketLimits()
  /// WebSocket is the only route, at any path unless one is given.
  var isWebSocketOnly = false
  var webSocketPath: String?

  /// Streams that may be open on one HTTP/2 connection.
  var streamsMax = 100
  /// Bytes of answers that may wait on one HTTP/2 connection before the next is made.
  var answersSizeBytesMax = 16 << 20
  /// Nil: clear text.
  var tls: TLSSettings?
  var handshakeTimeoutMs = 10_000
  /// Nil: everybody may do everything.
  var access: AccessPolicy?

  /// Connections above `connectionsMax` that are still taken, to be told so.
  static let refusedConnectionsMax = 64
  /// Bytes of a denied request's body that are thrown away before its connection is closed instead.
  static let droppedSizeBytesMax: UInt32 = 64 << 10
}
