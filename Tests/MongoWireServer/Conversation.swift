import Glibc

/// One connection: its bytes, and whether it has said who it is.
struct Conversation {
  private let descriptor: Int32
  private var replyID: Int32 = 0
  private var scram: ScramExchange?
  private var isAuthenticated = false

  init(descriptor: Int32) { self.descriptor = descriptor }

  mutating func nextID() -> Int32 {
    replyID += 1
    return replyID
  }

  /// The next message, header included; nil when the connection has ended or makes no sense.
  func receive() -> [UInt8]? {
    guard var message = read(Message.headerBytes) else { return nil }
    let count = message.withUnsafeBytes { Int(Int32(littleEndian: $0.loadUnaligned(as: Int32.self))) }
    // The beginning of TLS looks like a long message.
    guard Message.isKnown(message), count >= Message.headerBytes, count <= Message.sizeBytesMax,
      let rest = read(count - message.count)
    else {
      return nil
    }
    message += rest
    return message
  }

  private func read(_ count: Int) -> [UInt8]? {
    var isWhole = true
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      while initialized < count {
        let got = recv(descriptor, buffer.baseAddress! + initialized, count - initialized, 0)
        if got < 0, errno == EINTR { continue }
        if got <= 0 {
          isWhole = false
          return
        }
        initialized += got
      }
    }
    return isWhole ? bytes : nil
  }

  func send(_ bytes: [UInt8]) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return false }
      sent += count
    }
    return true
  }

  /// The answer to a command of the authentication; nil: go on with it. Throws when somebody has to say who they are first.
  mutating func authenticate(
    _ name: String, _ command: Document, _ credentials: Credentials?
  ) throws(ServerError) -> Document? {
    guard let credentials else { return nil }
    switch name {
    case "hello", "isMaster", "ismaster": return nil
    case "saslStart":
      guard command["mechanism"]?.text == "SCRAM-SHA-256" else {
        throw ServerError(334, "MechanismUnavailable", "Unsupported mechanism '\(command["mechanism"]?.text ?? "")'")
      }
      var exchange = ScramExchange(credentials)
      let payload = try exchange.begin(Self.payload(command))
      scram = exchange
      return Self.sasl(payload, isDone: false)
    case "saslContinue":
      guard var exchange = scram else { throw ServerError(17, "ProtocolError", "No SASL session state found") }
      let payload = try exchange.proceed(Self.payload(command))
      scram = exchange
      isAuthenticated = exchange.isDone
      return Self.sasl(payload, isDone: exchange.isDone)
    default:
      if isAuthenticated { return nil }
      throw ServerError(13, "Unauthorized", "Command \(name) requires authentication")
    }
  }

  private static func payload(_ command: Document) -> [UInt8] {
    if case .binary(let bytes) = command["payload"] { return bytes }
    return []
  }

  private static func sasl(_ payload: [UInt8], isDone: Bool) -> Document {
    ["conversationId": .int32(1), "done": .bool(isDone), "payload": .binary(payload), "ok": .double(1)]
  }
}
