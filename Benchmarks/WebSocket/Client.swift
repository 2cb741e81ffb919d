import Glibc

/// One WebSocket connection of the load: text frames out, masked with zeros, and text frames in.
final class Client {
  let descriptor: CInt
  private var received: [UInt8] = []
  private var start = 0
  /// When its request went out, CLOCK_MONOTONIC.
  var sentNs: UInt64 = 0

  /// Connects to loopback and shakes hands; blocking until then.
  init(port: UInt16) {
    descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let failed = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard descriptor >= 0, failed == 0 else { fail("cannot connect: \(String(cString: strerror(errno)))") }
    var one: CInt = 1
    setsockopt(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<CInt>.size))
    send(
      bytes: Array(
        ("GET /api/v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").utf8))
    while !received.suffix(4).elementsEqual("\r\n\r\n".utf8) { receive() }
    guard received.starts(with: "HTTP/1.1 101".utf8) else {
      fail("no upgrade: \(String(decoding: received, as: UTF8.self))")
    }
    received.removeAll()
  }

  deinit { close(descriptor) }

  func becomeNonBlocking() { _ = fcntl(descriptor, F_SETFL, O_NONBLOCK) }

  /// A whole text frame, ready to be sent.
  static func frame(_ text: String) -> [UInt8] {
    let payload = Array(text.utf8)
    let length: [UInt8] =
      payload.count < 126
      ? [0x80 | UInt8(payload.count)] : [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
    return [0x81] + length + [0, 0, 0, 0] + payload
  }

  func send(bytes: [UInt8]) {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress! + done, $0.count - done, CInt(MSG_NOSIGNAL))
      }
      if count > 0 { done += count } else if errno != EAGAIN && errno != EINTR { fail("cannot send") }
    }
  }

  /// Takes in what has come; blocks when the socket does.
  func receive() {
    withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 1) { buffer in
      let count = recv(descriptor, buffer.baseAddress, buffer.count, 0)
      if count > 0 {
        received.append(contentsOf: buffer[..<count])
      } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
        fail("the node has closed a connection")
      }
    }
  }

  /// Calls `body` with the payload of every whole frame that has come.
  func takeFrames(_ body: (UnsafeBufferPointer<UInt8>) -> Void) {
    received.withUnsafeBufferPointer { bytes in
      while bytes.count - start >= 2 {
        var head = 2
        var size = Int(bytes[start + 1])
        if size == 126 {
          guard bytes.count - start >= 4 else { return }
          size = Int(bytes[start + 2]) << 8 | Int(bytes[start + 3])
          head = 4
        }
        guard bytes.count - start >= head + size else { return }
        body(UnsafeBufferPointer(rebasing: bytes[(start + head)..<(start + head + size)]))
        start += head + size
      }
    }
    if start == received.count {
      received.removeAll(keepingCapacity: true)
      start = 0
    }
  }

  /// Sends a request and waits for its answer.
  func ask(_ text: String) -> String {
    send(bytes: Self.frame(text))
    var answer: String?
    while answer == nil {
      receive()
      takeFrames { answer = String(decoding: $0, as: UTF8.self) }
    }
    return answer!
  }
}

func fail(_ text: String) -> Never {
  print("{\"error\": \"\(text)\"}")
  exit(1)
}

func nowNs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Waits for connections that have something to read.
final class Poll {
  private var entries: [pollfd] = []

  /// Clients are told apart by the order in which they were added, from 0.
  func add(_ client: Client) {
    entries.append(pollfd(fd: client.descriptor, events: Int16(POLLIN), revents: 0))
  }

  func wait(timeoutMs: CInt, _ body: (Int) -> Void) {
    var left = poll(&entries, nfds_t(entries.count), timeoutMs)
    for index in entries.indices where left > 0 && entries[index].revents != 0 {
      left -= 1
      body(index)
    }
  }
}

/// p50 and p99 in microseconds.
func percentiles(_ ns: [UInt64]) -> (p50: Double, p99: Double) {
  guard !ns.isEmpty else { return (0, 0) }
  let sorted = ns.sorted()
  return (Double(sorted[sorted.count / 2]) / 1e3, Double(sorted[min(sorted.count - 1, sorted.count * 99 / 100)]) / 1e3)
}
