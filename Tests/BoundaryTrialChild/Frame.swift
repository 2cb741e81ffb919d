/// What goes over the socket between proxy and child. The smallest thing that works: a frame is a 32-bit length, a type
/// and fields in a fixed order; numbers are little-endian, bytes carry a 32-bit length.
enum FrameType: UInt8 {
  // Proxy to child.
  case configure = 1
  case start, quiesce, stop, lend, apply, read, scan, generate, cancel, grant
  // Child to proxy.
  case hello = 32
  case reply, written, found, page, chunk, generated
}

struct FrameError: Error {}

struct Frame {
  let type: FrameType
  private(set) var bytes: [UInt8]
  private var position = 0

  init(_ type: FrameType) {
    self.type = type
    bytes = []
  }

  init(type: FrameType, payload: [UInt8]) {
    self.type = type
    bytes = payload
  }

  mutating func put(_ number: UInt64) {
    withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func put(_ number: UInt32) { put(UInt64(number)) }

  mutating func put(_ data: some Collection<UInt8>) {
    put(UInt64(data.count))
    bytes.append(contentsOf: data)
  }

  mutating func put(_ text: String) { put(Array(text.utf8)) }

  mutating func number() throws -> UInt64 {
    guard position + 8 <= bytes.count else { throw FrameError() }
    defer { position += 8 }
    return bytes[position..<position + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  mutating func small() throws -> UInt32 {
    guard let value = UInt32(exactly: try number()) else { throw FrameError() }
    return value
  }

  mutating func data() throws -> [UInt8] {
    let count = try number()
    guard count <= UInt64(bytes.count - position) else { throw FrameError() }
    defer { position += Int(count) }
    return Array(bytes[position..<position + Int(count)])
  }

  mutating func text() throws -> String { String(decoding: try data(), as: UTF8.self) }
}
