/// A blocking WebSocket client that sends frames as they are told, right or wrong. It frames by itself: the server's
/// frames are read by somebody who does not share its code.
public final class WebSocketClient {
  public struct Frame: Equatable {
    public var opcode: UInt8
    public var isFinal: Bool
    /// Must be 0.
    public var reserved: UInt8
    public var payload: [UInt8]
    public var text: String { String(decoding: payload, as: UTF8.self) }

    public init(opcode: UInt8, isFinal: Bool, reserved: UInt8, payload: [UInt8]) {
      self.opcode = opcode
      self.isFinal = isFinal
      self.reserved = reserved
      self.payload = payload
    }
  }

  /// The server has said goodbye.
  public struct Closed: Error, Equatable, CustomStringConvertible {
    /// Nil: the close frame had none.
    public var code: Int?
    public var reason: String

    public init(code: Int?, reason: String) {
      self.code = code
      self.reason = reason
    }

    public var description: String { "closed with \(code.map(String.init) ?? "no code"): \(reason)" }
  }

  /// The handshake was refused.
  public struct Refused: Error, CustomStringConvertible {
    public var answer: HTTPConnection.Answer
    public var description: String { "\(answer.status) \(answer.text)" }
  }

  public let connection: HTTPConnection
  /// The answer to the handshake.
  public let answer: HTTPConnection.Answer

  public static let key = "dGhlIHNhbXBsZSBub25jZQ=="
  /// What RFC 6455 says to that key.
  public static let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

  /// Connects and shakes hands.
  /// - Parameters:
  ///   - headers: besides those of the handshake; one with the name of those replaces it.
  ///   - trailing: sent with the request, in one piece.
  public init(
    port: Int, path: String = "/api/v1/ws", headers: [String: String] = [:], trailing: [UInt8] = [],
    timeoutSeconds: Int = 60, isSlow: Bool = false
  ) throws {
    connection = try HTTPConnection(port: port, timeoutSeconds: timeoutSeconds)
    if isSlow { connection.shrinkReceiveBuffer() }
    try connection.send(Array(Self.handshake(path: path, headers: headers).utf8) + trailing)
    answer = try connection.readAnswer(hasBody: true, mayUpgrade: true)
    guard answer.status == 101, answer.headers["sec-websocket-accept"] == Self.accept else {
      throw Refused(answer: answer)
    }
  }

  public static func handshake(path: String = "/api/v1/ws", headers: [String: String] = [:]) -> String {
    var all = [
      "host": "localhost", "upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13",
      "sec-websocket-key": key,
    ]
    for (name, value) in headers { all[name.lowercased()] = value.isEmpty ? nil : value }
    return "GET \(path) HTTP/1.1\r\n" + all.map { "\($0): \($1)\r\n" }.joined() + "\r\n"
  }

  // MARK: Sending

  /// The bytes of one frame.
  public static func frame(
    _ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true, reserved: UInt8 = 0, isMasked: Bool = true,
    mask: [UInt8] = [0x37, 0xFA, 0x21, 0x3D]
  ) -> [UInt8] {
    var bytes: [UInt8] = [(isFinal ? 0x80 : 0) | reserved << 4 | opcode]
    let maskBit: UInt8 = isMasked ? 0x80 : 0
    switch payload.count {
    case ..<126: bytes.append(maskBit | UInt8(payload.count))
    case ..<65_536: bytes += [maskBit | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
    default:
      bytes.append(maskBit | 127)
      for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(payload.count >> shift & 0xFF)) }
    }
    guard isMasked else { return bytes + payload }
    bytes += mask
    bytes.reserveCapacity(bytes.count + payload.count)
    for (index, byte) in payload.enumerated() { bytes.append(byte ^ mask[index & 3]) }
    return bytes
  }

  public func send(_ bytes: [UInt8]) throws { try connection.send(bytes) }

  public func sendText(_ text: String) throws { try send(Self.frame(1, Array(text.utf8))) }

  public func sendClose(_ code: Int?, _ reason: String = "") throws {
    let payload = code.map { [UInt8($0 >> 8), UInt8($0 & 0xFF)] } ?? []
    try send(Self.frame(8, payload + Array(reason.utf8)))
  }

  // MARK: Reading

  public func readFrame() throws -> Frame {
    let head = try connection.readBytes(2)
    var count = Int(head[1] & 0x7F)
    if count == 126 {
      count = try connection.readBytes(2).reduce(0) { $0 << 8 | Int($1) }
    } else if count == 127 {
      count = try connection.readBytes(8).reduce(0) { $0 << 8 | Int($1) }
    }
    // A server masks nothing.
    guard head[1] & 0x80 == 0 else { throw HTTPConnection.Trouble.garbage }
    return Frame(
      opcode: head[0] & 0x0F, isFinal: head[0] & 0x80 != 0, reserved: head[0] >> 4 & 7,
      payload: try connection.readBytes(count))
  }

  /// The next text message. Answers pings, ignores pongs.
  /// - Throws: `Closed` at a close frame, which it answers.
  public func readText() throws -> String {
    while true {
      let frame = try readFrame()
      guard frame.isFinal, frame.reserved == 0 else { throw HTTPConnection.Trouble.garbage }
      switch frame.opcode {
      case 1: return frame.text
      case 9: try send(Self.frame(10, frame.payload))
      case 10: continue
      case 8:
        let code = frame.payload.count >= 2 ? Int(frame.payload[0]) << 8 | Int(frame.payload[1]) : nil
        try? sendClose(code)
        throw Closed(code: code, reason: String(decoding: frame.payload.dropFirst(2), as: UTF8.self))
      default: throw HTTPConnection.Trouble.garbage
      }
    }
  }

  /// Sends a message and reads the next.
  public func ask(_ text: String) throws -> String {
    try sendText(text)
    return try readText()
  }

  /// What the server says when it closes; nil when the connection ends without a close frame.
  public func readClose() throws -> Closed? {
    do {
      while true { _ = try readText() }
    } catch let closed as Closed {
      return closed
    } catch HTTPConnection.Trouble.closed {
      return nil
    } catch HTTPConnection.Trouble.reset {
      return nil
    }
  }
}
