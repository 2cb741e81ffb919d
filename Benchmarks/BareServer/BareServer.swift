import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix

// The limit a node is measured against: SwiftNIO and nothing else. One event loop; every request, whatever it is, gets
// the same answer, which was recorded from a node, so that both send the same headers and the same number of bytes.

/// An answer as it went over the wire, and its parts.
struct RecordedAnswer: Sendable {
  let head: HTTPResponseHead
  let body: ByteBuffer
  let wire: ByteBuffer

  /// - Throws: `UsageError` when `path` does not hold one HTTP/1.1 answer with its whole body.
  init(path: String) throws {
    guard let file = fopen(path, "r") else { throw UsageError("\(path) cannot be read (errno \(errno))") }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = fread(&chunk, 1, chunk.count, file)
      if count == 0 { break }
      bytes += chunk[0..<count]
    }
    let end: [UInt8] = [13, 10, 13, 10]
    guard let headEnd = (0..<max(0, bytes.count - 3)).first(where: { bytes[$0..<($0 + 4)].elementsEqual(end) }) else {
      throw UsageError("\(path) does not hold an HTTP answer: no empty line ends its head")
    }
    let lines = String(decoding: bytes[0..<headEnd], as: UTF8.self).split(
      separator: "\r\n", omittingEmptySubsequences: false)
    guard let status = lines[0].split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
      throw UsageError("\(path) does not begin with a status line")
    }
    var headers = HTTPHeaders()
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { throw UsageError("\(path): '\(line)' is not a header") }
      headers.add(name: String(parts[0]), value: String(parts[1].drop { $0 == " " }))
    }
    head = HTTPResponseHead(version: .http1_1, status: HTTPResponseStatus(statusCode: status), headers: headers)
    body = ByteBuffer(bytes: bytes[(headEnd + 4)...])
    wire = ByteBuffer(bytes: bytes)
  }
}

struct UsageError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// Answers through NIO's own encoder.
final class EncodingHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart
  private let answer: RecordedAnswer

  init(_ answer: RecordedAnswer) { self.answer = answer }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .end = unwrapInboundIn(data) else { return }
    context.write(wrapOutboundOut(.head(answer.head)), promise: nil)
    context.write(wrapOutboundOut(.body(.byteBuffer(answer.body))), promise: nil)
    context.write(wrapOutboundOut(.end(nil)), promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }
  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

/// Answers with the recorded bytes as they are: what is left when encoding costs nothing.
final class RenderedHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = ByteBuffer
  private let answer: RecordedAnswer

  init(_ answer: RecordedAnswer) { self.answer = answer }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard case .end = unwrapInboundIn(data) else { return }
    context.write(wrapOutboundOut(answer.wire), promise: nil)
  }

  func channelReadComplete(context: ChannelHandlerContext) { context.flush() }
  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}

@main
enum BareServer {
  static func main() {
    do {
      try run(Array(CommandLine.arguments.dropFirst()))
    } catch {
      fputs("BareServer: \(error)\nUsage: BareServer PORT ANSWER_FILE [--rendered]\n", fdopen(2, "w"))
      exit(64)
    }
  }

  private static func run(_ arguments: [String]) throws {
    guard arguments.count >= 2, let port = Int(arguments[0]) else { throw UsageError("a port and a file are needed") }
    let answer = try RecordedAnswer(path: arguments[1])
    let isRendered = arguments.contains("--rendered")
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let server = try ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 1024)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
      // As the node: one read for each event.
      .childChannelOption(.maxMessagesPerRead, value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let pipeline = channel.pipeline.syncOperations
          if isRendered {
            try pipeline.addHandlers([ByteToMessageHandler(HTTPRequestDecoder()), RenderedHandler(answer)])
          } else {
            try pipeline.configureHTTPServerPipeline(withPipeliningAssistance: false, withErrorHandling: false)
            try pipeline.addHandler(EncodingHandler(answer))
          }
        }
      }
      .bind(host: "127.0.0.1", port: port).wait()
    try server.closeFuture.wait()
  }
}
