import Glibc

/// One thread, requests at the times that the rate fixes.
struct OpenLoad {
  private struct Connection {
    var descriptor: Int32 = -1
    /// When the request that it carries ought to have been sent; 0: it is idle.
    var dueNs: UInt64 = 0
    var reader = AnswerReader()
  }

  private let settings: LoadSettings
  private var connections: [Connection]
  /// One for each connection.
  private var polled: [pollfd]
  /// Indices of idle connections, used from the end.
  private var idle: [Int] = []
  private var latenciesNs: [UInt64] = []
  /// When each request that was answered ought to have been sent, in ms from the start; beside `latenciesNs`.
  private var dueMs: [UInt32] = []
  private var failures: [String: Int] = [:]
  private var reconnects = 0
  private var startNs: UInt64 = 0

  init(_ settings: LoadSettings) {
    self.settings = settings
    connections = Array(repeating: Connection(), count: settings.connections)
    polled = Array(repeating: pollfd(fd: -1, events: Int16(POLLIN), revents: 0), count: settings.connections)
    latenciesNs.reserveCapacity(settings.rate * settings.seconds)
    dueMs.reserveCapacity(settings.rate * settings.seconds)
  }

  private static func nowNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  mutating func run() {
    for index in connections.indices { connect(index) }
    let total = settings.rate * settings.seconds
    let intervalNs = 1e9 / Double(settings.rate)
    var sent = 0
    startNs = Self.nowNs() + 1_000_000
    func due(_ number: Int) -> UInt64 { startNs + UInt64(Double(number) * intervalNs) }
    // What is still open half a minute after the last one was due is given up.
    let endNs = due(total) + 30_000_000_000
    while true {
      var now = Self.nowNs()
      while sent < total, due(sent) <= now, let index = idle.popLast() {
        send(sent, on: index, dueNs: due(sent))
        sent += 1
        now = Self.nowNs()
      }
      let isBusy = connections.contains { $0.dueNs != 0 }
      if now > endNs || (sent == total && !isBusy) { break }
      // Below a millisecond it turns: the generator has a core of its own, and being woken would cost more.
      var waitMs: UInt64 = 50
      if sent < total, !idle.isEmpty { waitMs = min((due(sent) - min(now, due(sent))) / 1_000_000, waitMs) }
      guard poll(&polled, nfds_t(polled.count), Int32(waitMs)) > 0 else { continue }
      for index in polled.indices where polled[index].revents != 0 { receive(index) }
    }
    for connection in connections where connection.dueNs != 0 { fail("no answer") }
    for _ in sent..<total { fail("not sent") }
  }

  private mutating func fail(_ reason: String) { failures[reason, default: 0] += 1 }

  private mutating func connect(_ index: Int) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = settings.port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    guard descriptor >= 0, status == 0 else {
      fail("connect: \(String(cString: strerror(errno)))")
      if descriptor >= 0 { close(descriptor) }
      return
    }
    var on: Int32 = 1
    setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    connections[index].descriptor = descriptor
    connections[index].dueNs = 0
    connections[index].reader.clear()
    polled[index] = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    idle.append(index)
  }

  private mutating func replace(_ index: Int) {
    close(connections[index].descriptor)
    polled[index].fd = -1
    idle.removeAll { $0 == index }
    reconnects += 1
    connect(index)
  }

  private mutating func send(_ number: Int, on index: Int, dueNs: UInt64) {
    connections[index].dueNs = dueNs
    let bytes = settings.request(number)
    let count = bytes.withUnsafeBytes {
      Glibc.send(connections[index].descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
    if count != bytes.count {
      fail("send: \(String(cString: strerror(errno)))")
      replace(index)
    }
  }

  private mutating func receive(_ index: Int) {
    withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 8) { buffer in
      let count = recv(connections[index].descriptor, buffer.baseAddress, buffer.count, 0)
      if count < 0, errno == EAGAIN || errno == EINTR { return }
      guard count > 0 else {
        let reason = count < 0 ? String(cString: strerror(errno)) : "closed"
        fail(connections[index].dueNs != 0 ? "in an answer: \(reason)" : "while idle: \(reason)")
        return replace(index)
      }
      guard connections[index].reader.take(UnsafeRawBufferPointer(rebasing: buffer[..<count])) else { return }
      let dueNs = connections[index].dueNs
      let reader = connections[index].reader
      if reader.status == 200 {
        latenciesNs.append(Self.nowNs() - dueNs)
        dueMs.append(UInt32((dueNs - startNs) / 1_000_000))
      } else {
        fail("status \(reader.status)")
      }
      connections[index].dueNs = 0
      connections[index].reader.clear()
      if reader.closes { replace(index) } else { idle.append(index) }
    }
  }

  func report() -> String {
    let sorted = latenciesNs.sorted()
    func percentile(_ share: Double) -> Double {
      sorted.isEmpty ? 0 : Double(sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]) / 1000
    }
    // So that a single bad second can be told from a bad minute.
    var bySecond = [[UInt64]](repeating: [], count: settings.seconds)
    for (latencyNs, milliseconds) in zip(latenciesNs, dueMs) {
      bySecond[min(Int(milliseconds) / 1000, settings.seconds - 1)].append(latencyNs)
    }
    let seconds = bySecond.map { some -> String in
      let sorted = some.sorted()
      return sorted.isEmpty ? "null" : "\(Double(sorted[min(sorted.count - 1, sorted.count * 99 / 100)]) / 1000)"
    }
    let reasons = failures.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }
    return """
      {"answered":\(sorted.count),"failed":\(failures.values.reduce(0, +)),"failures":{\(reasons.joined(separator: ","))},\
      "reconnects":\(reconnects),"p50_us":\(percentile(0.5)),"p90_us":\(percentile(0.9)),"p99_us":\(percentile(0.99)),\
      "p999_us":\(percentile(0.999)),"max_us":\(percentile(1)),"p99_us_by_second":[\(seconds.joined(separator: ","))]}
      """
  }
}
