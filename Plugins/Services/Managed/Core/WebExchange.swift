import AsyncHTTPClient
import NIOCore
import NIOHTTP1

/// What a server answered.
struct WebAnswer: Sendable {
  var status: Int
  var headers: HTTPHeaders
  var body: ByteBuffer

  /// The media type without parameters, in lower case.
  var mediaType: String {
    let value = headers.first(name: "content-type") ?? ""
    return String(value.prefix { $0 != ";" && $0 != " " }).lowercased()
  }
}

/// The answer is longer than it may be.
struct AnswerTooLong: Error {}

/// Takes one answer, up to a size.
final class WebExchange: HTTPClientResponseDelegate, @unchecked Sendable {
  // @unchecked: everything mutable is touched on the one event loop alone.
  typealias Response = WebAnswer

  private let sizeBytesMax: Int
  private var head: HTTPResponseHead?
  private var body = ByteBuffer()

  init(sizeBytesMax: Int) { self.sizeBytesMax = sizeBytesMax }

  func didReceiveHead(task: HTTPClient.Task<WebAnswer>, _ head: HTTPResponseHead) -> EventLoopFuture<Void> {
    self.head = head
    if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }), length > sizeBytesMax {
      return task.eventLoop.makeFailedFuture(AnswerTooLong())
    }
    return task.eventLoop.makeSucceededVoidFuture()
  }

  func didReceiveBodyPart(task: HTTPClient.Task<WebAnswer>, _ buffer: ByteBuffer) -> EventLoopFuture<Void> {
    guard body.readableBytes + buffer.readableBytes <= sizeBytesMax else {
      return task.eventLoop.makeFailedFuture(AnswerTooLong())
    }
    body.writeImmutableBuffer(buffer)
    return task.eventLoop.makeSucceededVoidFuture()
  }

  func didFinishRequest(task: HTTPClient.Task<WebAnswer>) throws -> WebAnswer {
    guard let head else { throw HTTPClientError.remoteConnectionClosed }
    return WebAnswer(status: Int(head.status.code), headers: head.headers, body: body)
  }
}
