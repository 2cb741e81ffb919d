import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import PluginAPI
import Synchronization

/// What is asked of the remote.
struct RemoteRequest: Sendable {
  enum Method: Sendable { case get, post, delete }

  var method: Method
  /// The request target, byte for byte as it goes out.
  var target: String
  /// Made when the request is sent, so that a queue holds no bodies.
  var body: (@Sendable () -> ByteBuffer)?
  var key: RequestKey?
  /// W3C traceparent.
  var trace: String?
  /// When the caller stops waiting, CLOCK_MONOTONIC; 0: never.
  var deadlineNs: UInt64 = 0
  /// It is not this node's own: the remote leaves its peers out (`backplane-forwarded: 1`).
  var isForwarded = false

  /// Takes over what a call says of where it comes from.
  mutating func take(_ call: bp_call?) {
    trace = Trace.text(call)
    deadlineNs = call?.deadline_ns ?? 0
    isForwarded = (call?.flags ?? 0) & BP_CALL_FORWARDED != 0
  }
}

/// What the remote answered.
struct RemoteAnswer: Sendable {
  var status: Int
  var headers: HTTPHeaders
  var body: ByteBuffer

  /// The media type without parameters, in lower case.
  var mediaType: String {
    let value = headers.first(name: "content-type") ?? ""
    return value.prefix { $0 != ";" }.trimmingSpaces().lowercased()
  }

  var isJSON: Bool { mediaType == "application/json" }

  /// A node that serves has answered, be it with a refusal; not a gate before it, nor a stranger.
  var isNodes: Bool { (200...299).contains(status) || ((status == 400 || status == 404) && isJSON) }
}

extension Substring {
  fileprivate func trimmingSpaces() -> Substring {
    var text = self
    while text.first == " " { text.removeFirst() }
    while text.last == " " { text.removeLast() }
    return text
  }
}

/// The answer is longer than `response_size_bytes_max`.
struct AnswerTooLong: Error {}

/// One request on one connection.
final class Exchange: HTTPClientResponseDelegate, @unchecked Sendable {
  // @unchecked: everything mutable is touched on the one event loop alone, but for `task`, which is locked.
  typealias Response = RemoteAnswer

  let number: UInt64
  let target: String
  private let sizeBytesMax: Int
  private var head: HTTPResponseHead?
  private var body = ByteBuffer()
  /// It was begun to be written to a connection; a connection that is found closed is not written to.
  var isWritten = false
  /// The connection has carried a request before this one.
  var isOnUsedConnection = false
  /// Nothing of an answer has come.
  var isUnanswered: Bool { head == nil }

  init(number: UInt64, target: String, sizeBytesMax: Int) {
    self.number = number
    self.target = target
    self.sizeBytesMax = sizeBytesMax
  }

  func didReceiveHead(task: HTTPClient.Task<RemoteAnswer>, _ head: HTTPResponseHead) -> EventLoopFuture<Void> {
    self.head = head
    if let length = head.headers.first(name: "content-length").flatMap(Int.init) {
      if length > sizeBytesMax { return task.eventLoop.makeFailedFuture(AnswerTooLong()) }
      // A lie costs no memory that is not used: pages that nothing is written to do not exist.
      body.reserveCapacity(length)
    }
    return task.eventLoop.makeSucceededVoidFuture()
  }

  func didReceiveBodyPart(task: HTTPClient.Task<RemoteAnswer>, _ buffer: ByteBuffer) -> EventLoopFuture<Void> {
    guard body.readableBytes + buffer.readableBytes <= sizeBytesMax else {
      return task.eventLoop.makeFailedFuture(AnswerTooLong())
    }
    if body.readableBytes == 0, body.capacity == 0 {
      body = buffer
    } else {
      body.writeImmutableBuffer(buffer)
    }
    return task.eventLoop.makeSucceededVoidFuture()
  }

  func didFinishRequest(task: HTTPClient.Task<RemoteAnswer>) throws -> RemoteAnswer {
    guard let head else { throw HTTPClientError.remoteConnectionClosed }
    return RemoteAnswer(status: Int(head.status.code), headers: head.headers, body: body)
  }
}

/// Puts the exact target into the head of a request.
///
/// AsyncHTTPClient takes a URL and sends what Foundation makes of it, which percent-encodes what a URI may well have in
/// its path (`|`, `^`, `[`, a lone `%`): the record would be another. So every request is made for one URL and carries
/// the number of its exchange in a header, which is replaced by the target here, behind the encoder.
final class TargetHandler: ChannelOutboundHandler, RemovableChannelHandler {
  typealias OutboundIn = HTTPClientRequestPart
  typealias OutboundOut = HTTPClientRequestPart

  static let header = "x-backplane-exchange"

  private let exchanges: Exchanges
  private var requestsCount = 0

  init(_ exchanges: Exchanges) { self.exchanges = exchanges }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    guard case .head(var head) = unwrapOutboundIn(data),
      let number = head.headers.first(name: Self.header).flatMap({ UInt64($0) })
    else { return context.write(data, promise: promise) }
    head.headers.remove(name: Self.header)
    if let exchange = exchanges.find(number) {
      head.uri = exchange.target
      exchange.isWritten = true
      exchange.isOnUsedConnection = requestsCount > 0
    }
    requestsCount += 1
    context.write(wrapOutboundOut(.head(head)), promise: promise)
  }
}

/// The exchanges that are open, by number.
final class Exchanges: Sendable {
  private struct State {
    var open: [UInt64: (exchange: Exchange, task: HTTPClient.Task<RemoteAnswer>?)] = [:]
    var next: UInt64 = 0
  }
  private let state = Mutex(State())

  func begin(_ target: String, sizeBytesMax: Int) -> Exchange {
    state.withLock { state in
      state.next += 1
      let exchange = Exchange(number: state.next, target: target, sizeBytesMax: sizeBytesMax)
      state.open[state.next] = (exchange, nil)
      return exchange
    }
  }

  func started(_ exchange: Exchange, _ task: HTTPClient.Task<RemoteAnswer>) {
    state.withLock { state in
      // It may have ended already.
      if state.open[exchange.number] != nil { state.open[exchange.number]!.task = task }
    }
  }

  func end(_ exchange: Exchange) { state.withLock { _ = $0.open.removeValue(forKey: exchange.number) } }
  func find(_ number: UInt64) -> Exchange? { state.withLock { $0.open[number]?.exchange } }

  func cancel(_ number: UInt64) { state.withLock { $0.open[number]?.task }?.cancel() }
  func cancelAll() {
    for task in state.withLock({ $0.open.values.compactMap(\.task) }) { task.cancel() }
  }
}
