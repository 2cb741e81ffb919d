import Foundation
import ServerTesting
import Testing

@Suite struct FaultProxyTests {
  /// The proxy counts when it has something to do; nothing tells when it has.
  private func eventually(_ condition: () -> Bool) {
    let end = ContinuousClock.now + .seconds(60)
    while !condition(), ContinuousClock.now < end { usleep(1_000) }
    #expect(condition())
  }

  @Test(arguments: [false, true]) func bytesPassInOrder(_ isUnix: Bool) throws {
    let folder = try Folder()
    let server = try EchoServer(at: isUnix ? .unix(path: folder.path + "/server") : .tcp(port: 0))
    let proxy = try FaultProxy(
      to: server.address, listeningOn: isUnix ? .unix(path: folder.path + "/proxy") : .tcp(port: 0))
    let client = try Client(proxy.address)
    // More than the proxy holds at once.
    let sent = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* $0 >> 3) }
    Thread.detachNewThread { _ = client.send(sent) }
    #expect(client.receive(sent.count) == sent)
    client.endSending()
    #expect(client.receive(1) == [], "the end goes through in both directions")
    client.close()
    eventually { proxy.counts.open == 0 }
    let counts = proxy.counts
    #expect(counts.accepted == 1 && counts.bytesToServer == sent.count && counts.bytesToClient == sent.count)
  }

  @Test func whatIsRefusedIsRefusedAndComesBackAtTheSamePort() throws {
    let server = try EchoServer()
    let proxy = try FaultProxy(to: server.address)
    for _ in 0..<20 {
      let client = try Client(proxy.address)
      #expect(client.echo([1, 2, 3]) == [1, 2, 3])
      proxy.set(.refuses)
      #expect(client.receive(1) == nil, "open connections are reset")
      #expect(throws: (any Error).self) { try Client(proxy.address) }
      proxy.set(.passes)
      #expect(try Client(proxy.address).echo([4]) == [4])
    }
  }

  @Test func aBlackHoleHoldsAndLetsGo() throws {
    let server = try EchoServer()
    let proxy = try FaultProxy(to: server.address)
    let open = try Client(proxy.address)
    #expect(open.echo([1]) == [1])
    proxy.set(.blackHoles)
    let new = try Client(proxy.address)
    #expect(open.send([2]) == 1 && new.send([3]) == 1)
    #expect(open.isSilent(forMs: 100) && new.isSilent(forMs: 100))
    proxy.set(.passes)
    #expect(open.receive(1) == [2] && new.receive(1) == [3])
  }

  @Test func aDelayDelaysAndKeepsTheOrder() throws {
    let server = try EchoServer()
    let proxy = try FaultProxy(to: server.address)
    let client = try Client(proxy.address)
    proxy.set(.delays(milliseconds: 100))
    let start = ContinuousClock.now
    for byte in 0..<10 as Range<UInt8> { #expect(client.send([byte]) == 1) }
    #expect(client.receive(10) == Array(0..<10))
    #expect(ContinuousClock.now - start >= .milliseconds(200), "there and back")
  }

  @Test(arguments: [FaultProxy.Direction.toServer, .toClient]) func aCutComesAfterSoManyBytes(
    _ direction: FaultProxy.Direction
  ) throws {
    let server = try EchoServer()
    let proxy = try FaultProxy(to: server.address)
    let open = try Client(proxy.address)
    #expect(open.echo([9, 9, 9]) == [9, 9, 9])
    // Counted from now, on each connection.
    proxy.set(.cutsAfter(bytes: 5, direction))
    for client in [open, try Client(proxy.address)] {
      _ = client.send(Array(0..<8))
      let received = client.receive(8) ?? []
      if direction == .toClient { #expect(received == Array(0..<5)) } else { #expect(received.count <= 5) }
    }
    eventually { proxy.counts.open == 0 }
    let counts = proxy.counts
    #expect((direction == .toServer ? counts.bytesToServer : counts.bytesToClient) == 3 + 5 + 5)
  }

  @Test func resetsAreResets() throws {
    let server = try EchoServer()
    let proxy = try FaultProxy(to: server.address)
    let open = try Client(proxy.address)
    #expect(open.echo([1]) == [1])
    proxy.resetConnections()
    #expect(open.receive(1) == nil)
    #expect(try Client(proxy.address).echo([2]) == [2])
    proxy.set(.resets)
    // The reset may come before the client has even connected.
    if let client = try? Client(proxy.address) { #expect(client.receive(1) == nil) }
  }

  @Test func aServerThatIsNotThereResetsItsClients() throws {
    let server = try EchoServer()
    let proxy = try FaultProxy(to: server.address)
    server.stop()
    let client = try Client(proxy.address)
    #expect(client.receive(1) == nil)
  }

  @Test func nothingIsLeftAfterStop() throws {
    let server = try EchoServer()
    let proxy = try FaultProxy(to: server.address)
    let clients = try (0..<10).map { _ in try Client(proxy.address) }
    for client in clients { #expect(client.echo([1]) == [1]) }
    #expect(proxy.counts.open == 10)
    proxy.stop()
    proxy.stop()
    proxy.set(.passes)
    for client in clients { #expect(client.receive(1) == nil) }
    #expect(proxy.counts.open == 0)
    #expect(throws: (any Error).self) { try Client(proxy.address) }
  }
}
