/// A message of the wire protocol: OP_MSG, and the OP_QUERY that drivers begin a connection with.
struct Message {
  var requestID: Int32
  /// With the documents of its sequences as arrays.
  var command: Document
  var database: String
  var isLegacy: Bool

  static let headerBytes = 16
  static let sizeBytesMax = 48_000_000
  private static let opReply: Int32 = 1
  private static let opQuery: Int32 = 2_004
  private static let opMessage: Int32 = 2_013

  /// Why a connection is closed: a server does not answer what it cannot read.
  struct Malformed: Error {
    var text: String
  }

  /// `bytes`: the whole message, header included.
  init(_ bytes: [UInt8]) throws(Malformed) {
    requestID = Self.int32(bytes, 4)
    switch Self.int32(bytes, 12) {
    case Self.opMessage:
      isLegacy = false
      (command, database) = try Self.message(bytes)
    case Self.opQuery:
      isLegacy = true
      (command, database) = try Self.query(bytes)
    case let code: throw Malformed(text: "opcode \(code)")
    }
  }

  /// Whether the header is one of a message that can be read.
  static func isKnown(_ header: [UInt8]) -> Bool { [opQuery, opMessage].contains(int32(header, 12)) }

  private static func int32(_ bytes: [UInt8], _ offset: Int) -> Int32 {
    guard offset + 4 <= bytes.count else { return -1 }
    return bytes.withUnsafeBytes { Int32(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Int32.self)) }
  }

  private static func document(_ bytes: [UInt8], _ offset: inout Int, end: Int) throws(Malformed) -> Document {
    let count = Int(int32(bytes, offset))
    guard count >= 5, offset + count <= end, let document = Document(bson: bytes[offset..<(offset + count)]) else {
      throw Malformed(text: "no BSON document at byte \(offset)")
    }
    offset += count
    return document
  }

  private static func name(_ bytes: [UInt8], _ offset: inout Int) throws(Malformed) -> String {
    guard let end = bytes[offset...].firstIndex(of: 0) else { throw Malformed(text: "a name without an end") }
    defer { offset = end + 1 }
    return String(decoding: bytes[offset..<end], as: UTF8.self)
  }

  private static func message(_ bytes: [UInt8]) throws(Malformed) -> (Document, String) {
    let flags = UInt32(bitPattern: int32(bytes, headerBytes))
    // Only a checksum and "exhaust is fine" are allowed: who wants no answer is not served here.
    guard flags & ~0x1_0001 == 0 else { throw Malformed(text: "OP_MSG flags \(flags)") }
    let end = bytes.count - (flags & 1 != 0 ? 4 : 0)
    var offset = headerBytes + 4
    var body: Document?
    var sequences: [(String, [Value])] = []
    while offset < end {
      let kind = bytes[offset]
      offset += 1
      if kind == 0, body == nil {
        body = try document(bytes, &offset, end: end)
      } else if kind == 1 {
        let sequenceEnd = offset + Int(int32(bytes, offset))
        guard sequenceEnd <= end, sequenceEnd > offset else { throw Malformed(text: "a sequence beyond the message") }
        offset += 4
        let name = try name(bytes, &offset)
        var documents: [Value] = []
        while offset < sequenceEnd { documents.append(.document(try document(bytes, &offset, end: sequenceEnd))) }
        sequences.append((name, documents))
      } else {
        throw Malformed(text: "a section of kind \(kind)")
      }
    }
    guard var command = body, let database = command["$db"]?.text else { throw Malformed(text: "no body with a $db") }
    for (name, documents) in sequences {
      guard command[Text(name)] == nil else { throw Malformed(text: "\(name) twice") }
      command[Text(name)] = .array(documents)
    }
    return (command, "\(database)")
  }

  private static func query(_ bytes: [UInt8]) throws(Malformed) -> (Document, String) {
    var offset = headerBytes + 4
    let namespace = try name(bytes, &offset)
    guard namespace.hasSuffix(".$cmd") else { throw Malformed(text: "OP_QUERY on \(namespace)") }
    offset += 8
    let command = try document(bytes, &offset, end: bytes.count)
    return (command, String(namespace.dropLast(5)))
  }

  /// The answer on the wire.
  func reply(_ document: Document, id: Int32) -> [UInt8] {
    var body: [UInt8] = []
    func append(_ number: Int32) { withUnsafeBytes(of: number.littleEndian) { body.append(contentsOf: $0) } }
    if isLegacy {
      // Flags (AwaitCapable), cursor, first, count.
      append(8)
      append(0)
      append(0)
      append(0)
      append(1)
    } else {
      append(0)
      body.append(0)
    }
    body += document.bson
    var bytes = body
    body = []
    append(Int32(bytes.count + Self.headerBytes))
    append(id)
    append(requestID)
    append(isLegacy ? Self.opReply : Self.opMessage)
    bytes.insert(contentsOf: body, at: 0)
    return bytes
  }
}
