import NIOCore
import NIOHTTP1
import NIOPosix

/// A node's HTTP API from the outside: one request, one connection, bounded in time and size.
struct NodeClient: Sendable {
  /// What a node answered.
  struct Response: Sendable {
    let status: Int
    let contentType: String
    let body: [UInt8]

    var isJSON: Bool { contentType.hasPrefix("application/json") }
  }

  /// Largest answer taken, in bytes.
  static let bodySizeBytesMax = 256 << 20

  let host: String
  let port: Int
  /// The URL's path, to which `/api/v1/…` is added; without a slash at its end.
  let basePath: String
  let timeoutSeconds: Int

  /// `url` is `http://host[:port][/path]`; the port defaults to 80, as the scheme has it.
  init(url: String, timeoutSeconds: Int) throws {
    func refuse(_ reason: String) -> CommandFailure {
      CommandFailure(.usage, "the node's URL \"\(url)\" \(reason)")
    }
    guard let separator = url.firstRange(of: "://") else {
      throw refuse("has no scheme. Write http://host:port.")
    }
    let scheme = url[..<separator.lowerBound].lowercased()
    guard scheme != "https" else {
      throw refuse(
        "asks for TLS, which this client does not speak yet. Use http:// on a trusted network, or a tunnel.")
    }
    guard scheme == "http" else { throw refuse("is not an http:// one.") }
    let rest = url[separator.upperBound...]
    guard !rest.contains(where: { "?#@ ".contains($0) || $0.isNewline }) else {
      throw refuse("must be http://host:port, without user, query or fragment.")
    }
    let slash = rest.firstIndex(of: "/") ?? rest.endIndex
    let authority = rest[..<slash]
    var path = String(rest[slash...])
    while path.hasSuffix("/") { path.removeLast() }
    basePath = path
    var hostText = authority
    var portText: Substring?
    if authority.hasPrefix("["), let close = authority.firstIndex(of: "]") {
      hostText = authority[authority.index(after: authority.startIndex)..<close]
      let tail = authority[authority.index(after: close)...]
      guard tail.isEmpty || tail.hasPrefix(":") else { throw refuse("has something odd after the ].") }
      portText = tail.isEmpty ? nil : tail.dropFirst()
    } else if let colon = authority.lastIndex(of: ":") {
      hostText = authority[..<colon]
      portText = authority[authority.index(after: colon)...]
    }
    guard !hostText.isEmpty else { throw refuse("has no host.") }
    host = String(hostText)
    if let portText {
      guard let number = Int(portText), (1...65535).contains(number) else { throw refuse("has no valid port.") }
      port = number
    } else {
      port = 80
    }
    self.timeoutSeconds = timeoutSeconds
  }

  /// Sends one request to `basePath + path`.
  func send(_ method: HTTPMethod, _ path: String, body: [UInt8]? = nil) async throws -> Response {
    let group = MultiThreadedEventLoopGroup.singleton
    let promise = group.next().makePromise(of: Response.self)
    let timeout = TimeAmount.seconds(Int64(timeoutSeconds))
    let channel: any Channel
    do {
      channel = try await ClientBootstrap(group: group)
        .connectTimeout(timeout)
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHTTPClientHandlers()
            try channel.pipeline.syncOperations.addHandler(ResponseHandler(promise))
          }
        }
        .connect(host: host, port: port).get()
    } catch {
      promise.fail(error)
      throw CommandFailure(.unavailable, "no node answers at \(host):\(port): \(Self.reason(error)).")
    }
    let place = "\(host):\(port)"
    let seconds = timeoutSeconds
    let timer = channel.eventLoop.scheduleTask(in: timeout) {
      promise.fail(CommandFailure(.unavailable, "the node at \(place) did not answer within \(seconds) s (--timeout)."))
    }
    promise.futureResult.whenComplete { _ in
      timer.cancel()
      channel.close(promise: nil)
    }
    var head = HTTPRequestHead(version: .http1_1, method: method, uri: basePath + path)
    head.headers.add(name: "Host", value: host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)")
    head.headers.add(name: "Connection", value: "close")
    head.headers.add(name: "Accept", value: "*/*")
    head.headers.add(name: "User-Agent", value: "backplane")
    if let body {
      head.headers.add(name: "Content-Type", value: "application/json")
      head.headers.add(name: "Content-Length", value: String(body.count))
    }
    channel.write(HTTPClientRequestPart.head(head), promise: nil)
    if let body {
      channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil)
    }
    channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
    return try await promise.futureResult.get()
  }

  private static func reason(_ error: any Error) -> String {
    if let error = error as? NIOConnectionError {
      if error.dnsAError != nil || error.dnsAAAAError != nil, error.connectionErrors.isEmpty {
        return "the name cannot be resolved"
      }
      if let last = error.connectionErrors.last?.error { return reason(last) }
    }
    if let error = error as? IOError {
      return error.errnoCode == 111 ? "connection refused" : String(describing: error)
    }
    if case .connectTimeout(let time)? = error as? ChannelError {
      return "no connection within \(time.nanoseconds / 1_000_000_000) s"
    }
    return "\(error)"
  }

  /// Puts one response together.
  private final class ResponseHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    private let promise: EventLoopPromise<Response>
    private var head: HTTPResponseHead?
    private var body: [UInt8] = []

    init(_ promise: EventLoopPromise<Response>) { self.promise = promise }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      switch unwrapInboundIn(data) {
      case .head(let head): self.head = head
      case .body(let buffer):
        guard body.count + buffer.readableBytes <= bodySizeBytesMax else {
          promise.fail(
            CommandFailure(
              .unavailable, "the node's answer is larger than \(bodySizeBytesMax >> 20) MiB, the limit here."))
          return
        }
        body.append(contentsOf: buffer.readableBytesView)
      case .end:
        guard let head else { return }
        promise.succeed(
          Response(
            status: Int(head.status.code), contentType: head.headers.first(name: "content-type")?.lowercased() ?? "",
            body: body))
      }
    }

    func channelInactive(context: ChannelHandlerContext) {
      promise.fail(CommandFailure(.unavailable, "the node closed the connection before its answer was complete."))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
      promise.fail(CommandFailure(.unavailable, "what answers there does not speak HTTP: \(error)."))
      context.close(promise: nil)
    }
  }
}
