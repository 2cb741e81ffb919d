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

  /// What the handlers know: they must not be the last to hold the node, which joins their thread.
  private final class Core: Sendable {
    struct State {
      var asked: [Asked] = []
      var connectionsCount = 0
      var channels: [any Channel] = []
      var held: [@Sendable () -> Void] = []
      var health: Reply = .answer(200, #"{"status":"healthy"}"#)
      var isStopped = false
    }
    let state = Mutex(State())
    let script: Script

    init(_ script: @escaping Script) { self.script = script }

    func connected(_ channel: any Channel) {
      state.withLock { state in
        state.connectionsCount += 1
        state.channels.append(channel)
      }
    }

    func disconnected(_ channel: any Channel) { state.withLock { $0.channels.removeAll { $0 === channel } } }

    func reply(_ asked: Asked) -> Reply {
      if asked.target.hasSuffix("/api/v1/health") { return state.withLock { $0.health } }
      let numbered = state.withLock { state in
        var asked = asked
        asked.number = state.asked.count
        state.asked.append(asked)
        return asked
      }
      return script(numbered)
    }

    func takeChannels() -> [any Channel] {
      state.withLock { state in
        defer { state.channels = [] }
        return state.channels
      }
    }
  }

  private let core: Core
  private let group: MultiThreadedEventLoopGroup
  private let channel: any Channel

  var port: Int { channel.localAddress!.port! }
  var url: String { "http://127.0.0.1:\(port)" }
  /// Every request but those for health.
  var asked: [Asked] { core.state.withLock { $0.asked } }
  var connectionsCount: Int { core.state.withLock { $0.connectionsCount } }
  var openConnectionsCount: Int { core.state.withLock { $0.channels.count } }
  var heldCount: Int { core.state.withLock { $0.held.count } }

  init(port: Int = 0, tls: NIOSSLContext? = nil, _ script: @escaping Script) throws {
    group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let core = Core(script)
    self.core = core
    channel = try ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
          try channel.pipeline.syncOperations.addHandler(Handler(core))
        }
      }
      .bind(host: "127.0.0.1", port: port).wait()
  }

  deinit { stop() }

  /// Closes every connection and the listener. Only the first time counts.
  func stop() {
    let isStopped = core.state.withLock { state in
      defer { state.isStopped = true }
      return state.isStopped
    }
    if isStopped { return }
    try? channel.close().wait()
    closeConnections()
    try? group.syncShutdownGracefully()
  }

  /// Closes the connections, so that the next request finds its own gone.
  func closeConnections() {
    for channel in core.takeChannels() { try? channel.close().wait() }
  }

  /// An answer after which the connection ends, and says so.
  static func closing(_ status: Int, _ text: String) -> [UInt8] {
    Handler.answer(status, Array(text.utf8), [("content-type", "application/json"), ("connection", "close")])
  }

  /// Lets the held answers go.
  func release() {
    let held = core.state.withLock { state in
      defer { state.held = [] }
      return state.held
    }
    for one in held { one() }
  }

  func setHealth(_ reply: Reply) { core.state.withLock { $0.health = reply } }

  /// Reads requests with a Content-Length, one after the other.
  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let core: Core
    private var received: [UInt8] = []

    init(_ core: Core) { self.core = core }

    func channelActive(context: ChannelHandlerContext) { core.connected(context.channel) }
    func channelInactive(context: ChannelHandlerContext) { core.disconnected(context.channel) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      received += Array(unwrapInboundIn(data).readableBytesView)
      while let asked = take() { send(core.reply(asked), context) }
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
        core.state.withLock { state in
          state.held.append { channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }
        }
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
