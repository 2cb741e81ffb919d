import NIOCore
import NIOHTTP1
import NIOTLS

/// Finds out which HTTP a new connection speaks, puts the handlers for it in place, and leaves.
///
/// With TLS the handshake may have settled it (ALPN). Otherwise the first bytes tell: HTTP/2 begins with a line that is no
/// request, and a client that knows that we speak it may send that at once, also in clear text.
final class ProtocolChoice: ChannelInboundHandler, RemovableChannelHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let connection: Connection
  /// What could still become the preface, or has come while the handlers were put in place.
  private var held: ByteBuffer?
  private var isChosen = false
  /// The client has begun with a handshake that has not ended.
  var isHandshaking = false

  init(_ connection: Connection) { self.connection = connection }

  private static let preface: StaticString = "PRI * HTTP/2.0\r\n"

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    var bytes = unwrapInboundIn(data)
    if var earlier = held {
      earlier.writeBuffer(&bytes)
      bytes = earlier
    }
    // A handler that is being put in place writes, and a write that fails reads what has come before it gives up.
    if isChosen {
      held = bytes
      return
    }
    switch Self.match(bytes) {
    case .incomplete: held = bytes
    case .other: choose(context, isHTTP2: false, bytes)
    case .matched: choose(context, isHTTP2: true, bytes)
    }
  }

  private enum Match { case incomplete, matched, other }

  private static func match(_ bytes: ByteBuffer) -> Match {
    bytes.withUnsafeReadableBytes { bytes in
      for (index, byte) in bytes.prefix(preface.utf8CodeUnitCount).enumerated() where byte != preface.utf8Start[index] {
        return .other
      }
      return bytes.count < preface.utf8CodeUnitCount ? .incomplete : .matched
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .handshakeCompleted(let name)? = event as? TLSUserEvent {
      isHandshaking = false
      connection.handshakeEnded()
      if name == "h2" { return choose(context, isHTTP2: true, nil) }
    }
    context.fireUserInboundEventTriggered(event)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if isHandshaking {
      isHandshaking = false
      connection.handshakeFailed(error)
    }
    context.fireErrorCaught(error)
  }

  private func choose(_ context: ChannelHandlerContext, isHTTP2: Bool, _ bytes: ByteBuffer?) {
    isChosen = true
    held = bytes
    do {
      if isHTTP2 {
        try connection.loop.multiplex(context, in: connection)
      } else {
        var decoding = NIOHTTPDecoderLimits()
        decoding.apply(connection.loop.limits)
        try context.pipeline.syncOperations.addHandler(
          // What is left over goes to WebSocket, the only reason for the decoder to be removed.
          ByteToMessageHandler(
            HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes, limitConfiguration: decoding.configuration)),
          position: .after(self))
      }
    } catch {
      // The pipeline is being torn down.
      context.close(promise: nil)
      return
    }
    while let bytes = held {
      held = nil
      context.fireChannelRead(wrapInboundOut(bytes))
    }
    context.pipeline.syncOperations.removeHandler(self, promise: nil)
  }
}
