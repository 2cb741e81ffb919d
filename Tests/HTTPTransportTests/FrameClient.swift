import NIOCore
import NIOHPACK

/// An HTTP/2 client that sends what it is told, sound or not, and sees every frame that comes back.
final class FrameClient {
  struct Frame {
    var type: UInt8
    var flags: UInt8
    var stream: Int
    var payload: [UInt8]

    /// Of RST_STREAM, or of GOAWAY behind its stream.
    var errorCode: UInt8 { payload.last ?? 0 }
  }

  enum Kind {
    static let data: UInt8 = 0
    static let headers: UInt8 = 1
    static let reset: UInt8 = 3
    static let settings: UInt8 = 4
    static let ping: UInt8 = 6
    static let goAway: UInt8 = 7
    static let windowUpdate: UInt8 = 8
    static let continuation: UInt8 = 9
  }

  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
  static let enhanceYourCalm: UInt8 = 11

  let raw: Client
  private var decoder = HPACKDecoder(allocator: ByteBufferAllocator())
  private var isSettled = false

  /// - Parameter windowSize: what the server may send on a stream; nil: 65,535 bytes.
  init(_ fixture: Fixture, windowSize: Int? = nil, sendsPreface: Bool = true) throws {
    raw = try fixture.client()
    guard sendsPreface else { return }
    let settings = windowSize.map { [0, 4] + Self.big($0, 4) } ?? []
    raw.send(Self.preface + Self.frame(Kind.settings, 0, 0, settings))
  }

  static func big(_ value: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - $0))) }
  }

  static func frame(_ type: UInt8, _ flags: UInt8, _ stream: Int, _ payload: [UInt8] = []) -> [UInt8] {
    big(payload.count, 3) + [type, flags] + big(stream, 4) + payload
  }

  /// A header block of literals, whatever is in them.
  static func block(_ fields: [(String, String)]) -> [UInt8] {
    func text(_ text: String) -> [UInt8] {
      let count = text.utf8.count
      guard count >= 127 else { return [UInt8(count)] + Array(text.utf8) }
      var (rest, bytes) = (count - 127, [UInt8(127)])
      while rest >= 128 {
        bytes.append(UInt8(rest % 128) | 128)
        rest /= 128
      }
      return bytes + [UInt8(rest)] + Array(text.utf8)
    }
    return fields.flatMap { [0] + text($0.0) + text($0.1) }
  }

  static func request(
    _ stream: Int, _ path: String, method: String = "GET", _ more: [(String, String)] = [], ends: Bool = true
  ) -> [UInt8] {
    let fields = [(":method", method), (":scheme", "http"), (":authority", "t"), (":path", path)] + more
    return frame(Kind.headers, ends ? 5 : 4, stream, block(fields))
  }

  func send(_ bytes: [UInt8]) { raw.send(bytes) }

  /// The next frame. Acknowledges settings.
  func next() throws -> Frame {
    let head = try raw.bytes(9)
    let count = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
    let stream = Int(head[5]) << 24 | Int(head[6]) << 16 | Int(head[7]) << 8 | Int(head[8])
    let frame = Frame(type: head[3], flags: head[4], stream: stream, payload: try raw.bytes(count))
    if frame.type == Kind.settings, frame.flags == 0, !isSettled {
      isSettled = true
      send(Self.frame(Kind.settings, 1, 0))
    }
    return frame
  }

  /// The next frame of one of these types; others are passed over.
  func next(_ types: UInt8...) throws -> Frame {
    while true {
      let frame = try next()
      if types.contains(frame.type) { return frame }
    }
  }

  /// The next answer's status, whichever stream's.
  func status() throws -> String {
    var block = ByteBuffer(bytes: try next(Kind.headers).payload)
    return try decoder.decodeHeaders(from: &block).first { $0.name == ":status" }?.value ?? ""
  }

  /// Reads to the GOAWAY that names an error; its code. The end of the connection must follow it.
  func failure() throws -> UInt8 {
    var code: UInt8 = 0
    while code == 0 {
      let frame = try next(Kind.goAway)
      code = frame.payload[7]
    }
    _ = try raw.end()
    return code
  }
}
