import NIOCore
import NIOWebSocket

/// NIO's frame decoder, with what it leaves to others: what a client may not send is refused at the first bytes of a
/// frame, not after its last, and what is held of an unfinished frame is counted.
final class FrameDecoder: ByteToMessageDecoder {
  typealias InboundOut = WebSocketFrame

  /// Why a frame is not taken.
  enum Refusal: Error {
    /// Reserved bits without an extension that gives them a meaning, or a reserved opcode.
    case reserved
    case notMasked
  }

  /// A bit for each: continuation, text, binary, close, ping, pong.
  private static let opcodes: UInt16 = 0b111_0000_0111

  private let frames: WebSocketFrameDecoder
  private unowned let connection: WebSocketConnection
  /// The next byte is the first of a frame.
  private var isAtStart = true

  init(_ connection: WebSocketConnection, frameSizeBytesMax: Int) {
    self.connection = connection
    frames = WebSocketFrameDecoder(maxFrameSize: frameSizeBytesMax)
  }

  func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
    if isAtStart {
      guard buffer.readableBytes >= 2 else {
        connection.holdsOfFrame = buffer.readableBytes
        return .needMoreData
      }
      let first = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self)!
      let second = buffer.getInteger(at: buffer.readerIndex + 1, as: UInt8.self)!
      guard first & 0x70 == 0, Self.opcodes >> UInt16(first & 0x0F) & 1 == 1 else { throw Refusal.reserved }
      guard second & 0x80 != 0 else { throw Refusal.notMasked }
    }
    let state = try frames.decode(context: context, buffer: &buffer)
    // A frame's head is taken out of the buffer before its data is there.
    isAtStart = state == .continue
    connection.holdsOfFrame = isAtStart ? 0 : max(1, buffer.readableBytes)
    return state
  }

  func decodeLast(context: ChannelHandlerContext, buffer: inout ByteBuffer, seenEOF: Bool) throws -> DecodingState {
    while try decode(context: context, buffer: &buffer) == .continue {}
    return .needMoreData
  }
}
