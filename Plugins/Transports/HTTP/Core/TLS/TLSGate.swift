import NIOCore

/// Looks at the first byte of a connection that should begin with a TLS handshake. A client that speaks HTTP in clear
/// text here is told so in clear text; it could read nothing else.
final class TLSGate: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer
  typealias OutboundOut = ByteBuffer

  private let choice: ProtocolChoice
  private let connection: Connection
  private var isTurnedAway = false

  init(_ choice: ProtocolChoice, _ connection: Connection) {
    self.choice = choice
    self.connection = connection
  }

  private struct NoHandshake: Error, CustomStringConvertible {
    let description = "the client did not begin with a TLS handshake"
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let bytes = unwrapInboundIn(data)
    guard !isTurnedAway, let first = bytes.getInteger(at: bytes.readerIndex, as: UInt8.self) else { return }
    // The type of a handshake record.
    if first == 22 {
      choice.isHandshaking = true
      context.fireChannelRead(data)
      context.pipeline.syncOperations.removeHandler(self, promise: nil)
      return
    }
    isTurnedAway = true
    connection.handshakeFailed(NoHandshake())
    guard first >= 0x41, first <= 0x5A else { return context.close(promise: nil) }
    let text = "This port speaks HTTPS: ask with https:// in place of http://."
    let answer =
      "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=UTF-8\r\ncontent-length: \(text.utf8.count)\r\n"
      + "connection: close\r\n\r\n" + text
    context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: answer)), promise: nil)
    // The client closes, or the time for its handshake runs out.
    context.close(mode: .output, promise: nil)
  }
}
