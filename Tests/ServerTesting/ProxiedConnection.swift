import Glibc

/// One client's connection and the one to the server that belongs to it. Confined to the proxy's thread.
final class ProxiedConnection {
  enum State: Equatable {
    case open
    /// Both sides have said all they had to say, or the connection was cut.
    case over
    /// One side was reset or could not be reached; the other one gets a reset too.
    case broken
  }

  private let client: Int32
  private let server: Int32
  private(set) var toServer = ProxiedStream()
  private(set) var toClient = ProxiedStream()
  private(set) var state = State.open

  /// Takes `client` over.
  init(client: Int32, server address: SocketAddress) {
    self.client = client
    server = (try? address.makeSocket()) ?? -1
    // On this machine a connection is there at once or refused at once; one that is not there yet has nothing to read.
    let code = server < 0 ? -1 : address.withRaw { connect(server, $0, $1) }
    if code != 0, errno != EINPROGRESS { state = .broken }
  }

  /// The bound of `fault`, counted from now.
  func limit(_ fault: FaultProxy.Fault) {
    toServer.bytesLeft = nil
    toClient.bytesLeft = nil
    guard case .cutsAfter(let bytes, let direction) = fault else { return }
    if direction == .toServer { toServer.bytesLeft = bytes } else { toClient.bytesLeft = bytes }
  }

  /// What to wait for. Nothing at all of a side that has nothing to do: its end would be reported for ever.
  func polled(_ nowNs: UInt64) -> [pollfd] {
    func events(_ descriptor: Int32, from: ProxiedStream, to: ProxiedStream) -> pollfd {
      var events: Int16 = 0
      if from.takesMore { events |= Int16(POLLIN) }
      if to.dueNs <= nowNs { events |= Int16(POLLOUT) }
      return pollfd(fd: events == 0 ? -1 : descriptor, events: events, revents: 0)
    }
    return [events(client, from: toServer, to: toClient), events(server, from: toClient, to: toServer)]
  }

  /// When there is something to send: `UInt64.max` when there is nothing.
  var dueNs: UInt64 { min(toServer.dueNs, toClient.dueNs) }

  /// Takes what has come and sends what is due.
  func move(_ nowNs: UInt64, delayNs: UInt64) {
    guard state == .open else { return }
    let isWhole =
      toServer.fill(from: client, dueNs: nowNs + delayNs) && toClient.fill(from: server, dueNs: nowNs + delayNs)
      && toServer.drain(to: server, nowNs) && toClient.drain(to: client, nowNs)
    if !isWhole {
      state = .broken
    } else if toServer.isCut || toClient.isCut || (toServer.isEnded && toClient.isEnded) {
      state = .over
    }
  }

  func close(isReset: Bool) {
    for descriptor in [client, server] where descriptor >= 0 {
      if isReset {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
      }
      Glibc.close(descriptor)
    }
  }
}

/// One direction of a connection: what was read and waits to be sent.
struct ProxiedStream {
  private static let bytesHeldMax = 1 << 20
  private static let pieceBytesMax = 1 << 16

  private(set) var bytesSent = 0
  /// How many more bytes may be sent before the connection is cut; nil: no bound.
  var bytesLeft: Int?
  /// The end has been passed on.
  private(set) var isEnded = false
  private var pieces: [(dueNs: UInt64, bytes: ArraySlice<UInt8>)] = []
  private var bytesHeld = 0
  /// When the end, which was read, is passed on.
  private var endDueNs: UInt64?

  var isCut: Bool { bytesLeft == 0 }
  var takesMore: Bool { endDueNs == nil && bytesHeld < ProxiedStream.bytesHeldMax }
  var dueNs: UInt64 { pieces.first?.dueNs ?? (isEnded ? .max : endDueNs ?? .max) }

  /// False: the connection is broken.
  mutating func fill(from descriptor: Int32, dueNs: UInt64) -> Bool {
    guard takesMore else { return true }
    var count = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: ProxiedStream.pieceBytesMax) { buffer, used in
      count = read(descriptor, buffer.baseAddress, buffer.count)
      used = max(0, count)
    }
    if count < 0 { return errno == EAGAIN || errno == EINTR }
    if count == 0 {
      endDueNs = dueNs
    } else {
      bytesHeld += count
      pieces.append((dueNs, bytes[...]))
    }
    return true
  }

  /// False: the connection is broken.
  mutating func drain(to descriptor: Int32, _ nowNs: UInt64) -> Bool {
    while let first = pieces.first, first.dueNs <= nowNs, !isCut {
      let wanted = min(first.bytes.count, bytesLeft ?? .max)
      let count = first.bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, wanted, Int32(MSG_NOSIGNAL)) }
      if count < 0 { return errno == EAGAIN || errno == EINTR }
      bytesSent += count
      bytesHeld -= count
      bytesLeft? -= count
      if count == first.bytes.count {
        pieces.removeFirst()
      } else {
        pieces[0].bytes = first.bytes.dropFirst(count)
      }
    }
    if pieces.isEmpty, let endDueNs, endDueNs <= nowNs, !isEnded {
      shutdown(descriptor, Int32(SHUT_WR))
      isEnded = true
    }
    return true
  }
}
