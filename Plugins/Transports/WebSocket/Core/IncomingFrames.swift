import NIOCore
import NIOWebSocket

/// From frames to messages, and the client's half of the closing handshake.
extension WebSocketConnection {
  public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let frame = unwrapInboundIn(data)
    switch state {
    case .open: break
    case .closeSent:
      if frame.opcode == .connectionClose { finish() }
      return
    case .closing, .closed: return
    }
    noteFrame()
    switch frame.opcode {
    case .text: begin(frame)
    case .continuation: goOn(frame)
    case .binary:
      close(.protocolError, 1003, "Messages are text here: JSON requests. Bytes go into a request's data as Base64.")
    case .ping: sendPong(unmasked(frame))
    case .pong: break
    case .connectionClose: answerClose(unmasked(frame))
    default: close(.protocolError, 1002, "Reserved opcode.")
    }
  }

  private func begin(_ frame: WebSocketFrame) {
    guard message == nil else {
      return close(.protocolError, 1002, "A message began before the last fragment of the one before it.")
    }
    guard frame.fin else {
      var buffer = ByteBufferAllocator().buffer(capacity: frame.data.readableBytes)
      Self.append(frame, to: &buffer)
      message = buffer
      return
    }
    loop.takeInput(frame.data.readableBytes)
    Self.append(frame, to: &loop.input)
    accept(loop.input)
  }

  private func goOn(_ frame: WebSocketFrame) {
    guard var buffer = message else {
      return close(.protocolError, 1002, "A fragment came that continues no message.")
    }
    message = nil
    guard buffer.readableBytes + frame.data.readableBytes <= loop.limits.messageSizeBytesMax else {
      return closeTooLarge()
    }
    Self.append(frame, to: &buffer)
    if frame.fin { accept(buffer) } else { message = buffer }
  }

  /// What the decoder refused, or what became of the socket.
  func refuse(_ error: any Error) {
    switch error {
    case FrameDecoder.Refusal.reserved:
      close(.protocolError, 1002, "Reserved bits or opcode; no extension was agreed on.")
    case FrameDecoder.Refusal.notMasked: close(.protocolError, 1002, "A client's frames must be masked.")
    case NIOWebSocketError.invalidFrameLength: closeTooLarge()
    case is NIOWebSocketError: close(.protocolError, 1002, "Control frames have at most 125 bytes and no fragments.")
    default: closeNow()
    }
  }

  private func closeTooLarge() {
    close(
      .messageTooLarge, 1009,
      "A message has at most \(loop.limits.messageSizeBytesMax) bytes (message_size_bytes_max).")
  }

  /// The client says goodbye: the same code goes back, unless it says what may not be said.
  private func answerClose(_ bytes: ByteBuffer) {
    var bytes = bytes
    guard bytes.readableBytes > 0 else {
      sendClose(nil, "")
      return finish()
    }
    guard let code = bytes.readInteger(as: UInt16.self), Self.mayBeSent(code) else {
      return close(.protocolError, 1002, "This close code may not be sent.")
    }
    let isText = bytes.withUnsafeReadableBytes { String(validating: $0, as: UTF8.self) != nil }
    guard isText else { return close(.protocolError, 1007, "The reason of a close frame is UTF-8.") }
    sendClose(code, "")
    finish()
  }

  /// RFC 6455 section 7.4, and what was registered since.
  private static func mayBeSent(_ code: UInt16) -> Bool {
    switch code {
    case 1000...1003, 1007...1014, 3000...4999: true
    default: false
    }
  }

  private func unmasked(_ frame: WebSocketFrame) -> ByteBuffer {
    var bytes = ByteBufferAllocator().buffer(capacity: frame.data.readableBytes)
    Self.append(frame, to: &bytes)
    return bytes
  }

  /// Appends a frame's data, unmasked eight bytes at a time.
  private static func append(_ frame: WebSocketFrame, to buffer: inout ByteBuffer) {
    let count = frame.data.readableBytes
    guard count > 0, let key = frame.maskKey else { return }
    var mask: UInt64 = 0
    for index in 0..<8 { mask |= UInt64(key[index & 3]) << UInt64(index * 8) }
    buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { target in
      frame.data.withUnsafeReadableBytes { source in
        var offset = 0
        while offset + 8 <= count {
          let word = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
          target.storeBytes(of: (word ^ mask).littleEndian, toByteOffset: offset, as: UInt64.self)
          offset += 8
        }
        while offset < count {
          target[offset] = source[offset] ^ key[offset & 3]
          offset += 1
        }
      }
      return count
    }
  }
}
