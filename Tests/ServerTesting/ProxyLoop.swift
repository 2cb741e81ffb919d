import Glibc

/// The connections of a proxy and the fault that holds for them. Confined to the proxy's thread.
struct ProxyLoop {
  private var listener: ProxyListener
  private let server: SocketAddress
  private var fault = FaultProxy.Fault.passes
  private var connections: [ProxiedConnection] = []
  /// Of connections that have ended, and how many were accepted.
  private var ended = FaultProxy.Counts()

  init(_ listener: ProxyListener, to server: SocketAddress) {
    self.listener = listener
    self.server = server
  }

  /// Until it is asked to stop.
  mutating func run(_ requests: ProxyRequests) {
    while true {
      let wanted = requests.wanted
      if wanted.isStopping { break }
      follow(wanted.fault)
      if wanted.resetsOnce { end(connections, isReset: true) }
      requests.tell(counts)
      step(wake: requests.wake)
    }
    end(connections, isReset: true)
    listener.closeForGood()
    requests.tell(counts)
  }

  private var counts: FaultProxy.Counts {
    var counts = ended
    counts.open = connections.count
    for connection in connections {
      counts.bytesToServer += connection.toServer.bytesSent
      counts.bytesToClient += connection.toClient.bytesSent
    }
    return counts
  }

  /// Makes `wanted` hold; what is open meets it at once.
  private mutating func follow(_ wanted: FaultProxy.Fault) {
    guard wanted != fault else { return }
    fault = wanted
    if fault == .refuses {
      listener.close()
      return end(connections, isReset: true)
    }
    // The address was ours before, and the reservation kept it.
    do { try listener.open() } catch { preconditionFailure("\(error)") }
    // Who waits to be accepted is connected already, and meets the fault as open connections do.
    while accept() {}
    if fault == .resets { return end(connections, isReset: true) }
    for connection in connections { connection.limit(fault) }
  }

  private mutating func end(_ over: [ProxiedConnection], isReset: Bool) {
    for connection in over {
      connection.close(isReset: isReset)
      ended.bytesToServer += connection.toServer.bytesSent
      ended.bytesToClient += connection.toClient.bytesSent
    }
    connections.removeAll { connection in over.contains { $0 === connection } }
  }

  /// Waits for something to do, and does it.
  private mutating func step(wake: Int32) {
    let isHeld = fault == .blackHoles
    let now = ProxyLoop.nowNs()
    var due = UInt64.max
    var polled = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
    polled.append(pollfd(fd: listener.descriptor, events: Int16(POLLIN), revents: 0))
    if !isHeld {
      for connection in connections {
        polled += connection.polled(now)
        due = min(due, connection.dueNs)
      }
    }
    // Rounded up: a wait that is a fraction too short would be taken again and again. What is due already waits for the
    // other side to take it, which is polled for.
    let waitMs = due == .max || due <= now ? -1 : Int32(clamping: (due - now) / 1_000_000 + 1)
    guard poll(&polled, nfds_t(polled.count), waitMs) >= 0 else { return }
    if polled[1].revents != 0 { while accept() {} }
    if fault == .resets { return end(connections, isReset: true) }
    if isHeld { return }
    for connection in connections { connection.move(ProxyLoop.nowNs(), delayNs: delayNs) }
    end(connections.filter { $0.state == .broken }, isReset: true)
    end(connections.filter { $0.state == .over }, isReset: false)
  }

  private var delayNs: UInt64 {
    if case .delays(let milliseconds) = fault { UInt64(milliseconds) * 1_000_000 } else { 0 }
  }

  private mutating func accept() -> Bool {
    let client = listener.accept()
    guard client >= 0 else { return false }
    ended.accepted += 1
    let connection = ProxiedConnection(client: client, server: server)
    connection.limit(fault)
    connections.append(connection)
    return true
  }

  private static func nowNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
