import Glibc

/// Where a proxy's clients connect: opened and closed again and again, at the same address.
struct ProxyListener {
  let address: SocketAddress
  /// Bound and never listening: the port stays ours while nobody listens, and connecting to it is refused.
  private let reservation: Int32
  private(set) var descriptor: Int32 = -1

  init(_ wanted: SocketAddress) throws(SocketFailure) {
    if case .tcp = wanted {
      let made = try wanted.makeSocket()
      guard wanted.withRaw({ Glibc.bind(made, $0, $1) }) == 0 else {
        let code = errno
        Glibc.close(made)
        throw SocketFailure("bind", code, wanted)
      }
      reservation = made
      address = wanted.bound(made)
    } else {
      reservation = -1
      address = wanted
    }
    do { try open() } catch {
      closeForGood()
      throw error
    }
  }

  mutating func open() throws(SocketFailure) {
    guard descriptor < 0 else { return }
    let made = try address.makeSocket()
    if case .unix(let path) = address { unlink(path) }
    guard address.withRaw({ Glibc.bind(made, $0, $1) }) == 0, listen(made, 512) == 0 else {
      let code = errno
      Glibc.close(made)
      throw SocketFailure("bind and listen", code, address)
    }
    descriptor = made
  }

  /// From now on connecting is refused.
  mutating func close() {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = -1
  }

  mutating func closeForGood() {
    close()
    if reservation >= 0 { Glibc.close(reservation) }
    if case .unix(let path) = address { unlink(path) }
  }

  /// The next client that waits; -1: none.
  func accept() -> Int32 {
    let client = Glibc.accept(descriptor, nil, nil)
    guard client >= 0 else { return -1 }
    _ = fcntl(client, F_SETFD, FD_CLOEXEC)
    _ = fcntl(client, F_SETFL, O_NONBLOCK)
    return client
  }
}
