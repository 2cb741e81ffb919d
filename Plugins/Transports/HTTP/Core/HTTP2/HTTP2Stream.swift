import NIOCore
import NIOHPACK
import NIOHTTP1
import TransportSupport
import NIOHTTP2

/// Between one HTTP/2 stream and the `Connection` that answers it: a request's frames come out as parts of HTTP/1.1, and
/// the answer's text goes out as frames. So a request is treated alike whatever carried it, and HTTP/1.1 in clear text
/// pays nothing for it.
final class HTTP2Stream: ChannelDuplexHandler, @unchecked Sendable {
  // @unchecked: confined to the connection's event loop.
  typealias InboundIn = HTTP2Frame.FramePayload
  typealias InboundOut = HTTPServerRequestPart
  typealias OutboundIn = ByteBuffer
  typealias OutboundOut = HTTP2Frame.FramePayload

  let parent: HTTP2Connection
  /// The whole answer has been handed to the stream.
  private(set) var isAnswered = false
  /// CLOCK_MONOTONIC_COARSE, when the client last took some of the answer.
  private(set) var progressNs: UInt64 = 0

  private var sawHead = false
  private(set) var isInputEnded = false
  private var isOpen = false
  /// The answer is out before the request is in: what is left of the request is not wanted.
  private var isReset = false
  /// Pieces of the answer that have not been written to the socket.
  private var piecesLeft = 0

  init(_ parent: HTTP2Connection) { self.parent = parent }

  private static let pieceSizeBytes = 64 << 10
  /// Smaller bodies are copied, so that the loop's output buffer is free again at once.
  private static let copiedSizeBytesMax = 8 << 10

  func handlerAdded(context: ChannelHandlerContext) {
    isOpen = true
    parent.streamOpened()
  }

  func handlerRemoved(context: ChannelHandlerContext) { end() }

  func channelInactive(context: ChannelHandlerContext) {
    context.fireChannelInactive()
    end()
  }

  private func end() {
    guard isOpen else { return }
    isOpen = false
    parent.streamClosed()
  }

  // MARK: Requests come in

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isReset, !isInputEnded else { return }
    switch unwrapInboundIn(data) {
    case .headers(let frame):
      if !sawHead {
        sawHead = true
        do {
          let head = try RequestHead.make(frame.headers, limits: parent.loop.limits)
          context.fireChannelRead(wrapInboundOut(.head(head)))
        } catch {
          isInputEnded = frame.endStream
          context.fireErrorCaught(error)
          return
        }
      }
      if frame.endStream { endInput(context) }
    case .data(let frame):
      if case .byteBuffer(let bytes) = frame.data, bytes.readableBytes > 0 {
        context.fireChannelRead(wrapInboundOut(.body(bytes)))
      }
      if frame.endStream { endInput(context) }
    default: break
    }
  }

  private func endInput(_ context: ChannelHandlerContext) {
    isInputEnded = true
    context.fireChannelRead(wrapInboundOut(.end(nil)))
  }

  // MARK: Answers go out

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    var text = unwrapOutboundIn(data)
    guard text.readableBytes > 0, !isAnswered else {
      promise?.succeed(())
      return
    }
    repeat {
      let (headers, isFinal) = AnswerHead.take(from: &text)
      let hasBody = isFinal && text.readableBytes > 0
      context.write(
        wrapOutboundOut(.headers(.init(headers: headers, endStream: isFinal && !hasBody))),
        promise: hasBody ? nil : promise)
      if isFinal {
        isAnswered = true
        progressNs = coarseMonotonicNs()
        if hasBody { writeBody(context, text, promise) }
        return
      }
    } while text.readableBytes > 0
  }

  private func writeBody(_ context: ChannelHandlerContext, _ body: ByteBuffer, _ promise: EventLoopPromise<Void>?) {
    if body.readableBytes <= Self.copiedSizeBytesMax {
      context.write(
        wrapOutboundOut(.data(.init(data: .byteBuffer(ByteBuffer(buffer: body)), endStream: true))), promise: promise)
      return
    }
    var rest = body
    while let piece = rest.readSlice(length: min(rest.readableBytes, Self.pieceSizeBytes)), piece.readableBytes > 0 {
      let isLast = rest.readableBytes == 0
      let sizeBytes = piece.readableBytes
      let written = context.eventLoop.makePromise(of: Void.self)
      piecesLeft += 1
      parent.answerQueued(sizeBytes)
      written.futureResult.assumeIsolated().whenComplete { _ in self.pieceWritten(context, sizeBytes) }
      if isLast, let promise { written.futureResult.cascade(to: promise) }
      context.write(
        wrapOutboundOut(.data(.init(data: .byteBuffer(piece), endStream: isLast))), promise: written)
    }
  }

  /// Or thrown away, when the stream has ended.
  private func pieceWritten(_ context: ChannelHandlerContext, _ sizeBytes: Int) {
    progressNs = coarseMonotonicNs()
    piecesLeft -= 1
    parent.answerWritten(sizeBytes)
    if isReset, piecesLeft == 0, isOpen { sendReset(context) }
  }

  func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
    guard mode == .output else { return context.close(mode: mode, promise: promise) }
    // The end of the answer has said so already. A request that is still coming is cut short, without blame.
    if !isInputEnded, !isReset {
      isReset = true
      if piecesLeft == 0 { sendReset(context) }
    }
    promise?.succeed(())
  }

  private func sendReset(_ context: ChannelHandlerContext) {
    context.writeAndFlush(wrapOutboundOut(.rstStream(.noError)), promise: nil)
  }
}
