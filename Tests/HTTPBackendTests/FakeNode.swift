import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// An HTTP server that answers as it is told, and also as no server should.
final class FakeNode: Sendable {
  struct Asked: Sendable {
    var method: String
    var target: String
    /// Names in lower case.
    var headers: [String: String]
    var body: [UInt8]
    /// From 0, of all requests but those for health.
    var number: Int
    var text: String { String(decoding: body, as: UTF8.self) }
    var path: String { String(target.prefix { $0 != "?" }) }
  }

  enum Reply: Sendable {
    case answer(Int, String, headers: [(String, String)] = [])
    case bytes(Int, [UInt8], headers: [(String, String)] = [])
    /// As it is; the connection stays open.
    case raw([UInt8])
    case rawThenClose([UInt8])
    case close
    /// No answer until the other side goes.
    case silence
    /// The answer comes when somebody calls `release`.
    case held(Int, String)
  }

  typealias Script = @Sendable (Asked) -> Reply

  private struct State {
    var asked: [Asked] = []
    var connectionsCount = 0
    var channels: [any Channel] = []
    var held: [@Sendable () -> Void] = []
    var health: Reply = .answer(200, #"{"status":"healthy"}"#)
  }
  private let state = Mutex(State())
  private let group: MultiThreadedEventLoopGroup
  private let channel: any Channel

  var port: Int { channel.localAddress!.port! }
  var url: String { "http://127.0.0.1:\(port)" }
  /// Every request but those for health.
  var asked: [Asked] { state.withLock { $0.asked } }
  var connectionsCount: Int { state.withLock { $0.connectionsCount } }

  var openConnectionsCount: Int { state.withLock { $0.channels.count } }

  init(port: Int = 0, tls: NIOSSLContext? = nil, _ script: @escaping Script) throws {
    group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let box = Box()
    channel = try ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
          try channel.pipeline.syncOperations.addHandler(Handler(box.node!, script))
        }
      }
      .bind(host: "127.0.0.1", port: port).wait()
    box.node = self
  }

  private final class Box: @unchecked Sendable {
    // @unchecked: set before anybody can connect: the port is not known before.
    weak var node: FakeNode?
  }

  deinit { stop() }

  /// Closes every connection and the listener.
  func stop() {
    let channels = state.withLock { state in
      defer { state.channels = [] }
      return state.channels
    }
    try? channel.close().wait()
    for channel in channels { try? channel.close().wait() }
    try? group.syncShutdownGracefully()
  }

  /// Closes the connections, so that the next request finds its own gone.
  func closeConnections() {
    let channels = state.withLock { state in
      defer { state.channels = [] }
      return state.channels
    }
    for channel in channels { try? channel.close().wait() }
  }

  /// An answer after which the connection ends, and says so.
  static func closing(_ status: Int, _ text: String) -> [UInt8] {
    Handler.answer(status, Array(text.utf8), [("content-type", "application/json"), ("connection", "close")])
  }

  /// Lets the held answers go.
  func release() {
    let held = state.withLock { state in
      defer { state.held = [] }
      return state.held
    }
    for one in held { one() }
  }

  var heldCount: Int { state.withLock { $0.held.count } }
  func setHealth(_ reply: Reply) { state.withLock { $0.health = reply } }

  fileprivate func connected(_ channel: any Channel) {
    state.withLock { state in
      state.connectionsCount += 1
      state.channels.append(channel)
    }
  }

  fileprivate func disconnected(_ channel: any Channel) {
    state.withLock { $0.channels.removeAll { $0 === channel } }
  }

  fileprivate func reply(_ asked: Asked, _ script: Script) -> Reply {
    if asked.target.hasSuffix("/api/v1/health") { return state.withLock { $0.health } }
    let numbered = state.withLock { state in
      var asked = asked
      asked.number = state.asked.count
      state.asked.append(asked)
      return asked
    }
    return script(numbered)
  }

  fileprivate func hold(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.held.append(body) } }

  /// Reads requests with a Content-Length, one after the other.
  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private weak var node: FakeNode?
    private let script: Script
    private var received: [UInt8] = []

    init(_ node: FakeNode, _ script: @escaping Script) {
      self.node = node
      self.script = script
    }

    func channelActive(context: ChannelHandlerContext) { node?.connected(context.channel) }
    func channelInactive(context: ChannelHandlerContext) { node?.disconnected(context.channel) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      received += Array(unwrapInboundIn(data).readableBytesView)
      while let asked = take() {
        guard let node else { return context.close(promise: nil) }
        send(node.reply(asked, script), context)
      }
    }

    private func take() -> Asked? {
      guard let end = received.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
      let lines = String(decoding: received[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
      let parts = lines[0].split(separator: " ")
      var headers: [String: String] = [:]
      for line in lines.dropFirst() {
        let colon = line.firstIndex(of: ":")!
        headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
      }
      let length = headers["content-length"].flatMap { Int($0) } ?? 0
      guard received.count >= end.upperBound + length else { return nil }
      let body = Array(received[end.upperBound..<(end.upperBound + length)])
      received.removeSubrange(..<(end.upperBound + length))
      return Asked(method: String(parts[0]), target: String(parts[1]), headers: headers, body: body, number: 0)
    }

    private func send(_ reply: Reply, _ context: ChannelHandlerContext) {
      switch reply {
      case .answer(let status, let text, let headers):
        let type = headers.contains { $0.0 == "content-type" } ? [] : [("content-type", "application/json")]
        write(Self.answer(status, Array(text.utf8), headers + type), context)
      case .bytes(let status, let bytes, let headers): write(Self.answer(status, bytes, headers), context)
      case .raw(let bytes): write(bytes, context)
      case .rawThenClose(let bytes):
        write(bytes, context)
        context.close(promise: nil)
      case .close: context.close(promise: nil)
      case .silence: break
      case .held(let status, let text):
        let channel = context.channel
        let bytes = Self.answer(status, Array(text.utf8), [("content-type", "application/json")])
        node?.hold { channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }
      }
    }

    private func write(_ bytes: [UInt8], _ context: ChannelHandlerContext) {
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
    }

    static func answer(_ status: Int, _ body: [UInt8], _ headers: [(String, String)]) -> [UInt8] {
      var head = "HTTP/1.1 \(status) Whatever\r\ncontent-length: \(body.count)\r\n"
      for (name, value) in headers { head += "\(name): \(value)\r\n" }
      return Array((head + "\r\n").utf8) + body
    }
  }
}
