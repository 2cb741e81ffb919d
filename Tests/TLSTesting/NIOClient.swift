import NIOCore
import NIOHPACK
import NIOHTTP1
import NIOHTTP2
import NIOPosix
import NIOSSL
import NIOTLS
import NodeTesting

/// A client on an event loop of its own, for what a raw socket cannot do: TLS and HTTP/2. Blocks the calling thread.
public final class NIOClient: @unchecked Sendable {
  // @unchecked: everything is constant after init; channels are used by their event loop.
  public struct TLS: Sendable {
    public var authority: String
    public var certificate: Certificates.Pair?
    public var minimum = TLSVersion.tlsv12
    public var maximum: TLSVersion?

    public init(authority: String) { self.authority = authority }
  }

  public struct Trouble: Error, CustomStringConvertible {
    public var description: String
  }

  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let channel: any Channel
  private let multiplexer: NIOHTTP2Handler.StreamMultiplexer?
  /// What ALPN settled; nil without TLS, or when the server chose none.
  public let negotiated: String?
  /// Of the server, with TLS.
  public let certificate: NIOSSLCertificate?
  public let version: TLSVersion?

  /// Connects to a port of this machine, and ends the handshake.
  public init(port: Int, tls: TLS? = nil, http2: Bool) throws {
    let handshake = group.next().makePromise(of: Settled.self)
    let context = try tls.map { try Self.context($0, http2) }
    do {
      channel = try ClientBootstrap(group: group)
        .connectTimeout(.seconds(60))
        .channelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            if let context {
              try channel.pipeline.syncOperations.addHandlers([
                NIOSSLClientHandler(context: context, serverHostname: "localhost"), Handshake(handshake, http2),
              ])
            } else {
              handshake.succeed(Settled(name: nil, multiplexer: try Self.configure(channel, http2)))
            }
          }
        }.connect(host: "127.0.0.1", port: port).wait()
      let channel = channel
      let settled = try handshake.futureResult.wait()
      (negotiated, multiplexer) = (settled.name, settled.multiplexer)
      (certificate, version) = try channel.eventLoop.submit {
        guard let handler = try? channel.pipeline.syncOperations.handler(type: NIOSSLClientHandler.self) else {
          return (nil, nil)
        }
        return (handler.peerCertificate, handler.tlsVersion)
      }.wait()
    } catch {
      handshake.fail(error)
      try? group.syncShutdownGracefully()
      throw error
    }
  }

  deinit {
    try? channel.close().wait()
    try? group.syncShutdownGracefully()
  }

  public var isOpen: Bool { channel.isActive }

  /// Waits until the server has closed the connection.
  public func waitForEnd() throws { try channel.closeFuture.wait() }

  private static func context(_ tls: TLS, _ http2: Bool) throws -> NIOSSLContext {
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.trustRoots = .file(tls.authority)
    configuration.minimumTLSVersion = tls.minimum
    configuration.maximumTLSVersion = tls.maximum
    configuration.applicationProtocols = http2 ? ["h2"] : ["http/1.1"]
    if let pair = tls.certificate {
      configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(pair.certificate).map { .certificate($0) }
      configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: pair.key, format: .pem))
    }
    return try NIOSSLContext(configuration: configuration)
  }

  /// What ALPN settled, and the handlers for it.
  fileprivate struct Settled: Sendable {
    var name: String?
    var multiplexer: NIOHTTP2Handler.StreamMultiplexer?
  }

  fileprivate static func configure(_ channel: any Channel, _ http2: Bool) throws -> NIOHTTP2Handler.StreamMultiplexer?
  {
    guard http2 else {
      try channel.pipeline.syncOperations.addHTTPClientHandlers()
      return nil
    }
    let handler = NIOHTTP2Handler(mode: .client, eventLoop: channel.eventLoop) { $0.close() }
    try channel.pipeline.syncOperations.addHandler(handler)
    return try handler.syncMultiplexer()
  }

  // MARK: Requests

  public func get(_ path: String, headers: [String: String] = [:]) throws -> HTTPConnection.Answer {
    try request("GET", path, headers: headers)
  }

  public func post(_ path: String, _ body: String, headers: [String: String] = [:]) throws -> HTTPConnection.Answer {
    try request("POST", path, headers: headers, body: Array(body.utf8))
  }

  public func request(
    _ method: String, _ path: String, headers: [String: String] = [:], body: [UInt8]? = nil
  ) throws -> HTTPConnection.Answer {
    try start(method, path, headers: headers, body: body).wait()
  }

  /// Sends a request without waiting for its answer.
  public func start(
    _ method: String, _ path: String, headers: [String: String] = [:], body: [UInt8]? = nil
  ) -> EventLoopFuture<HTTPConnection.Answer> {
    let promise = channel.eventLoop.makePromise(of: HTTPConnection.Answer.self)
    guard let multiplexer else {
      startHTTP1(method, path, headers, body, promise)
      return promise.futureResult
    }
    multiplexer.createStreamChannel { stream in
      stream.eventLoop.makeCompletedFuture {
        try stream.pipeline.syncOperations.addHandler(StreamCollector(promise))
      }
    }.whenComplete { result in
      switch result {
      case .failure(let error): promise.fail(error)
      case .success(let stream):
        var fields: HPACKHeaders = [
          ":method": method, ":scheme": "http", ":authority": "localhost", ":path": path,
        ]
        for (name, value) in headers { fields.add(name: name.lowercased(), value: value) }
        if let body { fields.add(name: "content-length", value: "\(body.count)") }
        let hasBody = body?.isEmpty == false
        let head = HTTP2Frame.FramePayload.headers(.init(headers: fields, endStream: !hasBody))
        if hasBody {
          stream.write(head, promise: nil)
          let data = HTTP2Frame.FramePayload.data(.init(data: .byteBuffer(ByteBuffer(bytes: body!)), endStream: true))
          stream.writeAndFlush(data, promise: nil)
        } else {
          stream.writeAndFlush(head, promise: nil)
        }
      }
    }
    return promise.futureResult
  }

  private func startHTTP1(
    _ method: String, _ path: String, _ headers: [String: String], _ body: [UInt8]?,
    _ promise: EventLoopPromise<HTTPConnection.Answer>
  ) {
    var fields = HTTPHeaders([("host", "localhost")])
    for (name, value) in headers { fields.add(name: name, value: value) }
    if let body { fields.add(name: "content-length", value: "\(body.count)") }
    let head = HTTPRequestHead(version: .http1_1, method: HTTPMethod(rawValue: method), uri: path, headers: fields)
    let channel = channel
    channel.eventLoop.execute {
      do {
        try channel.pipeline.syncOperations.addHandler(MessageCollector(promise))
      } catch { return promise.fail(error) }
      channel.write(HTTPClientRequestPart.head(head), promise: nil)
      if let body { channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil) }
      channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
    }
  }
}

/// Waits for the end of the handshake, one way or the other. The handlers are in place before the server's first bytes.
private final class Handshake: ChannelInboundHandler {
  typealias InboundIn = NIOAny
  private let promise: EventLoopPromise<NIOClient.Settled>
  private let http2: Bool

  init(_ promise: EventLoopPromise<NIOClient.Settled>, _ http2: Bool) {
    self.promise = promise
    self.http2 = http2
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted(let name)? = event as? TLSUserEvent {
      promise.completeWith(
        Result { .init(name: name, multiplexer: try NIOClient.configure(context.channel, http2)) })
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    promise.fail(error)
    context.fireErrorCaught(error)
  }

  func channelInactive(context: ChannelHandlerContext) {
    promise.fail(ChannelError.eof)
    context.fireChannelInactive()
  }
}

/// Gathers one answer from the frames of its stream.
private final class StreamCollector: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame.FramePayload
  private let promise: EventLoopPromise<HTTPConnection.Answer>
  private var answer = HTTPConnection.Answer(status: 0, headers: [:], body: [])

  init(_ promise: EventLoopPromise<HTTPConnection.Answer>) { self.promise = promise }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .headers(let frame):
      for (name, value, _) in frame.headers {
        if name == ":status" { answer.status = Int(value) ?? 0 } else { answer.headers[name] = value }
      }
      if answer.status >= 200, frame.endStream { promise.succeed(answer) }
    case .data(let frame):
      if case .byteBuffer(let bytes) = frame.data { answer.body.append(contentsOf: bytes.readableBytesView) }
      if frame.endStream { promise.succeed(answer) }
    default: break
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    promise.fail(error)
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) { promise.fail(ChannelError.eof) }
}

/// Gathers the next answer of an HTTP/1.1 connection, and goes.
private final class MessageCollector: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPClientResponsePart
  private let promise: EventLoopPromise<HTTPConnection.Answer>
  private var answer = HTTPConnection.Answer(status: 0, headers: [:], body: [])

  init(_ promise: EventLoopPromise<HTTPConnection.Answer>) { self.promise = promise }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      answer.status = Int(head.status.code)
      for (name, value) in head.headers { answer.headers[name.lowercased()] = value }
    case .body(let bytes): answer.body.append(contentsOf: bytes.readableBytesView)
    case .end:
      promise.succeed(answer)
      context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { promise.fail(error) }

  func channelInactive(context: ChannelHandlerContext) { promise.fail(ChannelError.eof) }
}
