import NIOCore
import NIOPosix

/// A server that answers as no server should.
public final class HostileServer: Sendable {
  public enum Reply: Sendable {
    case bytes(String)
    case bytesThenClose(String)
    case endless(head: String, chunk: String)
    case drip(head: String)
    case silence
    case close
  }

  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let channel: any Channel
  /// Also when it has stopped.
  public let port: Int
  public var url: String { "http://127.0.0.1:\(port)" }

  /// - Parameter wanted: its port; 0: any.
  public init(port wanted: Int = 0, _ reply: @escaping @Sendable (_ request: String) -> Reply) throws {
    channel = try ServerBootstrap(group: group)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Handler(reply)) }
      }
      .bind(host: "127.0.0.1", port: wanted).wait()
    port = channel.localAddress!.port!
  }

  public func stop() {
    try? channel.close().wait()
    try? group.syncShutdownGracefully()
  }

  public static func answer(
    _ status: Int, _ body: String, type: String = "application/json", _ more: String = ""
  ) -> String {
    "HTTP/1.1 \(status) X\r\ncontent-type: \(type)\r\ncontent-length: \(body.utf8.count)\r\n\(more)\r\n\(body)"
  }

  private final class Handler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    private let reply: @Sendable (String) -> Reply
    private var isOpen = true

    init(_ reply: @escaping @Sendable (String) -> Reply) { self.reply = reply }

    func channelInactive(context: ChannelHandlerContext) { isOpen = false }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      let request = String(buffer: unwrapInboundIn(data))
      switch reply(request) {
      case .bytes(let text): send(context, text)
      case .bytesThenClose(let text):
        send(context, text)
        context.close(promise: nil)
      case .endless(let head, let chunk):
        send(context, head)
        flood(context, chunk)
      case .drip(let head):
        send(context, head)
        drip(context)
      case .silence: break
      case .close: context.close(promise: nil)
      }
    }

    private func send(_ context: ChannelHandlerContext, _ text: String) {
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
    }

    private func flood(_ context: ChannelHandlerContext, _ chunk: String) {
      guard isOpen else { return }
      let next = context.eventLoop.makePromise(of: Void.self)
      next.futureResult.assumeIsolated().whenSuccess { self.flood(context, chunk) }
      context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: chunk)), promise: next)
    }

    private func drip(_ context: ChannelHandlerContext) {
      guard isOpen else { return }
      send(context, " ")
      context.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(50)) { self.drip(context) }
    }
  }
}
