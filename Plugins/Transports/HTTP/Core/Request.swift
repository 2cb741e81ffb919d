import NIOCore
import NIOHTTP1
import WebSocketTransport

enum Method: UInt8 {
  case get, head, post, delete, options, other

  init(_ method: HTTPMethod) {
    switch method {
    case .GET: self = .get
    case .HEAD: self = .head
    case .POST: self = .post
    case .DELETE: self = .delete
    case .OPTIONS: self = .options
    default: self = .other
    }
  }
}

/// Why a request is answered without being executed. But for the denials, its connection is closed.
enum Refusal: UInt8 {
  case none
  // What the access policy says.
  case tokenMissing, unknownToken, rightMissing, foreignOrigin, tooManyRequests
  case malformed, headerTooLarge, uriTooLong, bodyTooLarge, bodiesTooLarge, timedOut, expectationFailed
  case tooManyConnections, tooManyPipelined, unsupportedVersion

  var status: Int {
    switch self {
    case .none, .malformed: 400
    case .headerTooLarge: 431
    case .uriTooLong: 414
    case .bodyTooLarge: 413
    case .timedOut: 408
    case .expectationFailed: 417
    case .unsupportedVersion: 505
    case .tokenMissing, .unknownToken: 401
    case .rightMissing, .foreignOrigin: 403
    case .tooManyRequests: 429
    case .bodiesTooLarge, .tooManyConnections, .tooManyPipelined: 503
    }
  }

  /// One sentence for the client.
  func text(_ limits: Limits) -> String {
    switch self {
    case .none, .malformed: "The request is not valid HTTP/1.1."
    case .headerTooLarge: "The request's header is longer than \(limits.headerSizeBytesMax) bytes."
    case .uriTooLong: "The request's target is longer than \(limits.uriSizeBytesMax) bytes."
    case .bodyTooLarge: "The request's body is longer than \(limits.bodySizeBytesMax) bytes."
    case .bodiesTooLarge: "The server is receiving as many bytes of request bodies as it may; try again later."
    case .timedOut: "The request did not arrive in time."
    case .expectationFailed: "The only expectation this server meets is 100-continue."
    case .tooManyConnections: "The server has as many connections as it may; try again later."
    case .tooManyPipelined:
      "More than \(limits.pipelinedRequestsMax) requests wait on this connection; wait for answers before sending more."
    case .unsupportedVersion: "This server speaks HTTP/1.1 and HTTP/2."
    case .tokenMissing: "This needs a token: send Authorization: Bearer and the token."
    case .unknownToken: "This server does not know the token."
    case .rightMissing: "The right to do this is missing."
    case .foreignOrigin: "Pages of this origin may not change anything here."
    case .tooManyRequests: "Too many requests; wait before sending more."
    }
  }

  /// Said in the shape of the route's failures; the connection goes on.
  var isDenial: Bool { (Refusal.tokenMissing.rawValue...Refusal.tooManyRequests.rawValue).contains(rawValue) }
}

/// One request: what is kept of its head, and its body.
struct Request {
  var method = Method.get
  var refusal = Refusal.none
  var keepsAlive = true
  /// HTTP/1.0: keeping alive must be said.
  var isOldVersion = false
  var hasBody = false
  /// Of a denial; 0: not said.
  var retryAfterSeconds: UInt32 = 0
  /// Bytes of a denied request's body that were thrown away.
  var droppedSizeBytes: UInt32 = 0
  var wantsContinue = false
  var target = ""
  /// Bytes counted against `bodies_size_bytes_max`.
  var body: ByteBuffer?
  var origin: String?
  var requestID: String?
  var requestedHeaders: String?
  var trace: TraceContext?
  /// Another node asks (`x-backplane-node: 1`): it is told what the HTTP API has no place for.
  var isFromNode = false
  /// Another node hands on what a client asked of it (`backplane-forwarded: 1`): peers are left out.
  var isForwarded = false
  /// The name of the request on its way through nodes (`x-backplane-request`, 32 hexadecimal digits).
  var key: (high: UInt64, low: UInt64)?
  /// What the client may do.
  var rights = Rights.all
  /// Counts what it will send as a WebSocket.
  var meter: (@Sendable () -> UInt64)?
  /// The whole head of a request that asks for WebSocket.
  var upgrade: HTTPRequestHead?

  init() {}

  init(refusal: Refusal) {
    self.refusal = refusal
    keepsAlive = false
  }

  init(_ head: HTTPRequestHead, limits: Limits) {
    method = Method(head.method)
    target = head.uri
    keepsAlive = head.isKeepAlive
    isOldVersion = head.version.minor == 0
    if target.utf8.count > limits.uriSizeBytesMax { refusal = .uriTooLong }
    var contentLength: Int?
    var isChunked = false
    for (name, value) in head.headers {
      switch name.utf8.count {
      case 6:
        if name.matches("origin") {
          origin = Self.sane(value, countMax: 2048)
        } else if name.matches("expect") {
          if value.matches("100-continue") { wantsContinue = true } else { refuse(.expectationFailed) }
        }
      case 7:
        // The decoder stops after a message that asks for another protocol: this connection can carry no more.
        if name.matches("upgrade") {
          keepsAlive = false
          if WebSocketHandshake.isAskedFor(head.headers) { upgrade = head }
        }
      case 11: if name.matches("traceparent") { trace = TraceContext(value) }
      case 12: if name.matches("x-request-id") { requestID = Self.sane(value, countMax: 128) }
      case 14:
        if name.matches("content-length") {
          guard let length = Int(value), length >= 0, contentLength == nil || contentLength == length else {
            refuse(.malformed)
            continue
          }
          contentLength = length
        }
      case 16: if name.matches("x-backplane-node") { isFromNode = value == "1" }
      case 17: if name.matches("transfer-encoding") { isChunked = true }
      case 19:
        if name.matches("x-backplane-request") {
          key = TraceContext.key(value)
        } else if name.matches("backplane-forwarded") {
          isForwarded = value == "1"
        }
      case 30:
        if name.matches("access-control-request-headers") { requestedHeaders = Self.sane(value, countMax: 4096) }
      default: break
      }
    }
    if head.method == .CONNECT { keepsAlive = false }
    // Two lengths for one body are how requests are smuggled past a proxy.
    if isChunked, contentLength != nil { refuse(.malformed) }
    if let contentLength, contentLength > limits.bodySizeBytesMax { refuse(.bodyTooLarge) }
    hasBody = isChunked || (contentLength ?? 0) > 0
    if refusal != .none { keepsAlive = false }
  }

  private mutating func refuse(_ reason: Refusal) {
    if refusal == .none { refusal = reason }
  }

  /// A header value that may be sent back: bounded, printable ASCII; else nil.
  private static func sane(_ value: String, countMax: Int) -> String? {
    let bytes = value.utf8
    guard !bytes.isEmpty, bytes.count <= countMax, bytes.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }) else { return nil }
    return value
  }
}

extension String {
  /// Whether this text is `literal`, which is in lower case, but for the case of its letters.
  @inline(__always)
  func matches(_ literal: StaticString) -> Bool {
    guard utf8.count == literal.utf8CodeUnitCount else { return false }
    var place = literal.utf8Start
    for byte in utf8 {
      let lower = byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte
      if lower != place.pointee { return false }
      place += 1
    }
    return true
  }
}

/// A W3C traceparent header, version 00: `00-<32 hex>-<16 hex>-<2 hex>`.
struct TraceContext {
  var high: UInt64 = 0
  var low: UInt64 = 0
  var span: UInt64 = 0

  init?(_ text: String) {
    var text = text
    let parsed: TraceContext? = text.withUTF8 { bytes in
      guard bytes.count >= 55, bytes[2] == 0x2D, bytes[35] == 0x2D, bytes[52] == 0x2D,
        let version = Self.hex(bytes[0..<2]), version != 0xFF, version != 0 || bytes.count == 55,
        let high = Self.hex(bytes[3..<19]), let low = Self.hex(bytes[19..<35]), high | low != 0,
        let span = Self.hex(bytes[36..<52]), span != 0, Self.hex(bytes[53..<55]) != nil
      else { return nil }
      return TraceContext(high: high, low: low, span: span)
    }
    guard let parsed else { return nil }
    self = parsed
  }

  private init(high: UInt64, low: UInt64, span: UInt64) {
    self.high = high
    self.low = low
    self.span = span
  }

  /// Thirty-two lower-case hexadecimal digits, not all of them 0.
  static func key(_ text: String) -> (high: UInt64, low: UInt64)? {
    var text = text
    return text.withUTF8 { bytes in
      guard bytes.count == 32, let high = hex(bytes[0..<16]), let low = hex(bytes[16..<32]), high | low != 0 else {
        return nil
      }
      return (high, low)
    }
  }

  private static func hex(_ bytes: Slice<UnsafeBufferPointer<UInt8>>) -> UInt64? {
    var value: UInt64 = 0
    for byte in bytes {
      switch byte {
      case 0x30...0x39: value = value << 4 | UInt64(byte - 0x30)
      case 0x61...0x66: value = value << 4 | UInt64(byte - 0x57)
      default: return nil
      }
    }
    return value
  }
}
