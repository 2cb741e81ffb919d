import Glibc
import JSONText
import NIOCore
import NIOHTTP2
import NIOPosix
import NIOSSL
import PluginAPI
import Synchronization
import TransportSupport
import URIText
import WebSocketTransport

/// What the connections of one event loop share. Everything but the constants is touched on that loop alone.
final class LoopState: AcceptingLoop, @unchecked Sendable {
  // @unchecked: the mutable state is confined to the event loop; other threads use `eventLoop`, `table`, `limits` and
  // `shared` only, which never change.
  let eventLoop: any EventLoop
  let table: NodeTable
  let limits: Limits
  let shared: SharedState
  let series: Series
  let scanner: JSONScanner

  /// Answers that have been written but not handed to NIO. It belongs to one connection at a time: events of one
  /// connection do not interleave with another's, and whoever begins an answer flushes a former owner first.
  var output: ByteBuffer
  unowned(unsafe) var outputOwner: Connection?
  private var held = HeldAnswers()
  /// For the normal form of one URI.
  let uriScratch: UnsafeMutableBufferPointer<UInt8>
  /// For bodies that are put together piece by piece.
  var bodyScratch: [UInt8] = []
  var textScratch: [UInt8] = []
  /// `vary` and `date`, and `access-control-allow-origin` when it is always the same.
  private(set) var commonHeaders: [UInt8] = []
  private(set) var dateHeader: [UInt8] = []
  /// Whether the origin of a request is sent back.
  let echoesOrigin: Bool

  private(set) var connections: [Connection] = []
  /// Sockets that carry HTTP/2; their streams are among `connections`.
  private(set) var multiplexed: [HTTP2Connection] = []
  /// Nil: clear text.
  let certificates: CertificateStore?
  /// Connections that were handed over; nil when WebSocket is off.
  private(set) var webSockets: WebSocketLoop?
  let webSocketShared: WebSocketShared
  /// Node calls without completion, those of closed connections included.
  var callsOpen = 0
  /// Bytes of request bodies held by the connections of this loop.
  var bodiesSizeBytes = 0
  let bodiesSizeBytesMax: Int
  var counters = Counters()
  private(set) var isDraining = false
  private var emptyPromise: EventLoopPromise<Void>?
  private var ticker: RepeatedTask?
  private var lastReportNs: UInt64 = 0
  private var lastDateSeconds = 0
  private var nextRequestID: UInt64

  init(
    _ eventLoop: any EventLoop, table: NodeTable, limits: Limits, shared: SharedState, series: Series,
    certificates: CertificateStore?, webSocketShared: WebSocketShared, webSocketSeries: WebSocketSeries?
  ) {
    self.webSocketShared = webSocketShared
    self.eventLoop = eventLoop
    self.certificates = certificates
    self.table = table
    self.limits = limits
    self.shared = shared
    self.series = series
    scanner = JSONScanner(depthMax: limits.jsonDepthMax)
    output = ByteBufferAllocator().buffer(capacity: Self.outputCapacity)
    uriScratch = .allocate(capacity: URIText.scratchBytes(forInputBytes: limits.uriSizeBytesMax + 4))
    // The scratch is read only where it was written, but reading uninitialised memory must not be possible at all.
    uriScratch.initialize(repeating: 0)
    echoesOrigin = limits.corsOrigin == "*"
    bodiesSizeBytesMax = max(1, limits.bodiesSizeBytesMax / limits.loops)
    nextRequestID = UInt64.random(in: .min ... .max)
    renderCommonHeaders()
    if let webSocketLimits = limits.webSocket, let webSocketSeries {
      webSockets = WebSocketLoop(
        eventLoop, table: table, limits: webSocketLimits, state: shared, shared: webSocketShared,
        series: webSocketSeries
      ) { [unowned self] ended in
        if ended > 0 { self.shared.connectionsOpen.subtract(ended, ordering: .relaxed) }
        reportIfEmpty()
      }
    }
  }

  deinit { uriScratch.deallocate() }

  static let outputCapacity = 16 << 10
  /// A bigger output buffer is not kept.
  private static let outputCapacityMax = 256 << 10

  // MARK: Connections

  /// Starts the timer. On the loop.
  func start() {
    webSockets?.start()
    let interval = tickInterval
    ticker = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { [weak self] _ in
      self?.tick()
    }
  }

  /// Takes over an accepted socket. On the loop.
  func adopt(_ descriptor: CInt, isRefused: Bool) {
    let connection = Connection(self, descriptor: descriptor, isRefused: isRefused)
    let bootstrap = ClientBootstrap(group: eventLoop)
      .channelOption(.allowRemoteHalfClosure, value: true)
      .channelOption(.maxMessagesPerRead, value: 1)
      .channelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          let choice = ProtocolChoice(connection)
          if let tls = self.certificates {
            try channel.pipeline.syncOperations.addHandlers([
              TLSGate(choice, connection), NIOSSLServerHandler(context: tls.current),
            ])
          }
          try channel.pipeline.syncOperations.addHandlers([choice, connection])
        }
      }
    let shared = shared
    bootstrap.withConnectedSocket(descriptor).whenFailure { _ in
      // Reset by the peer before it was ours. The socket is closed; a connection that was added has counted itself down.
      if !connection.wasAdded { shared.connectionsOpen.subtract(1, ordering: .relaxed) }
    }
  }

  /// Turns a connection into one that carries HTTP/2, in the place of `connection`.
  func multiplex(_ context: ChannelHandlerContext, in connection: Connection) throws {
    let parent = HTTP2Connection(
      self, peer: Array(connection.peer[..<connection.peerCount]), isRefused: connection.isRefused)
    let management = NIOHTTP2ServerConnectionManagementHandler(
      eventLoop: eventLoop,
      // Time is looked at in one place, at every tick.
      configuration: .init(maxIdleTime: nil, maxAge: nil, maxGraceTime: nil, keepalive: nil))
    let configuration = HTTP2Connection.configuration(limits)
    let codec = NIOHTTP2Handler(
      mode: .server, eventLoop: eventLoop, connectionConfiguration: configuration.connection,
      streamConfiguration: configuration.stream, streamDelegate: management.http2StreamDelegate
    ) { channel in
      channel.eventLoop.makeCompletedFuture {
        let stream = HTTP2Stream(parent)
        try channel.pipeline.syncOperations.addHandlers([stream, Connection(stream)])
      }
    }
    try context.pipeline.syncOperations.addHandlers(
      [codec, management, parent], position: .before(connection))
    // It gives its place among the connections back.
    context.pipeline.syncOperations.removeHandler(connection, promise: nil)
  }

  func add(_ parent: HTTP2Connection) {
    parent.index = multiplexed.count
    multiplexed.append(parent)
    shared.multiplexedOpen.add(1, ordering: .relaxed)
    shared.connectionsOpen.add(1, ordering: .relaxed)
  }

  func remove(_ parent: HTTP2Connection) {
    let index = parent.index
    guard index >= 0 else { return }
    parent.index = -1
    if index < multiplexed.count - 1 {
      multiplexed[index] = multiplexed[multiplexed.count - 1]
      multiplexed[index].index = index
    }
    multiplexed.removeLast()
    shared.multiplexedOpen.subtract(1, ordering: .relaxed)
    shared.connectionsOpen.subtract(1, ordering: .relaxed)
    reportIfEmpty()
  }

  func add(_ connection: Connection) {
    connection.index = connections.count
    connections.append(connection)
  }

  func remove(_ connection: Connection) {
    guard takeOut(connection) else { return }
    if connection.stream == nil { shared.connectionsOpen.subtract(1, ordering: .relaxed) }
    reportIfEmpty()
  }

  /// The connection goes on as WebSocket: it stays counted as open.
  func handOver(_ connection: Connection) { _ = takeOut(connection) }

  private func takeOut(_ connection: Connection) -> Bool {
    let index = connection.index
    guard index >= 0 else { return false }
    connection.index = -1
    if index < connections.count - 1 {
      connections[index] = connections[connections.count - 1]
      connections[index].index = index
    }
    connections.removeLast()
    return true
  }

  func callEnded() {
    callsOpen -= 1
    reportIfEmpty()
  }

  // MARK: Saying goodbye

  /// From now on the next answer of each connection is its last. On the loop.
  func beginDraining() {
    isDraining = true
    for parent in multiplexed { parent.quiesce() }
    webSockets?.beginDraining()
  }

  /// Closes the connections on which nothing goes on. On the loop.
  func closeIdle() {
    for connection in connections where connection.isQuiet { connection.closeQuietly() }
    for parent in multiplexed where parent.isQuiet { parent.closeNow() }
    webSockets?.closeIdle()
  }

  /// Closes everything and gives up the calls that are still open. On the loop.
  func closeAll() {
    isDraining = true
    for connection in connections { connection.closeNow() }
    for parent in multiplexed { parent.closeNow() }
    webSockets?.closeAll()
  }

  /// Completes when no connection and no call is left. On the loop.
  func whenEmpty() -> EventLoopFuture<Void> {
    let promise = emptyPromise ?? eventLoop.makePromise(of: Void.self)
    emptyPromise = promise
    reportIfEmpty()
    return promise.futureResult
  }

  /// Stops waiting for emptiness. On the loop.
  func stopWaiting() {
    emptyPromise?.succeed(())
    emptyPromise = nil
  }

  /// On the loop, last.
  func stop() {
    ticker?.cancel()
    ticker = nil
    webSockets?.stop()
    report()
    stopWaiting()
  }

  private func reportIfEmpty() {
    guard emptyPromise != nil, connections.isEmpty, multiplexed.isEmpty, callsOpen == 0, webSockets?.isEmpty ?? true
    else { return }
    stopWaiting()
  }

  // MARK: Output

  /// The output buffer, for an answer of `connection`.
  @inline(__always)
  func claimOutput(_ connection: Connection) {
    if outputOwner !== connection {
      outputOwner?.flush()
      outputOwner = connection
    }
  }

  /// Makes the buffer ready for the next owner, after its bytes went to NIO.
  func recycleOutput() {
    outputOwner = nil
    if output.capacity > Self.outputCapacityMax {
      output = ByteBufferAllocator().buffer(capacity: Self.outputCapacity)
    } else {
      output.clear(minimumCapacity: Self.outputCapacity)
    }
  }

  /// Sends what was written to `connection` together with other answers of this turn of the loop. For its owner.
  func holdOutput(_ connection: Connection) {
    let (isDue, awaitsEnd) = held.hold(connection, &output)
    if awaitsEnd {
      eventLoop.assumeIsolated().execute {
        self.held.turnEnded()
        self.sendHeld()
      }
    }
    if isDue { sendHeld() }
    recycleOutput()
  }

  private func sendHeld() {
    for connection in held.take() { connection.sendHeld() }
  }

  @inline(__always)
  func makeRequestID() -> UInt64 {
    // SplitMix64: unique within the loop, and of no use to guess another's.
    nextRequestID &+= 0x9E37_79B9_7F4A_7C15
    var value = nextRequestID
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }

  private func renderCommonHeaders() {
    let seconds = time(nil)
    guard seconds != lastDateSeconds else { return }
    lastDateSeconds = seconds
    let date = "date: \(HTTPDate.text(secondsSince1970: seconds))\r\n"
    dateHeader = Array(date.utf8)
    var headers = "vary: Origin\r\n" + date
    if !echoesOrigin { headers += "access-control-allow-origin: \(limits.corsOrigin)\r\n" }
    commonHeaders = Array(headers.utf8)
  }

  // MARK: Time

  /// Often enough for the shortest time-out, and at least once a second for the date and the metrics.
  private var tickInterval: TimeAmount {
    let shortest = min(
      limits.headerTimeoutMs, limits.bodyTimeoutMs, limits.idleTimeoutMs, limits.writeTimeoutMs,
      limits.lingerTimeoutMs, certificates == nil ? .max : limits.handshakeTimeoutMs)
    return .milliseconds(Int64(max(10, min(1_000, shortest / 2))))
  }

  private func tick() {
    renderCommonHeaders()
    let now = coarseMonotonicNs()
    // Backwards, because a connection that is closed here changes places with the last.
    var index = connections.count - 1
    while index >= 0 {
      if index < connections.count { connections[index].check(now) }
      index -= 1
    }
    index = multiplexed.count - 1
    while index >= 0 {
      if index < multiplexed.count { multiplexed[index].check(now) }
      index -= 1
    }
    if now &- lastReportNs >= 1_000_000_000 {
      lastReportNs = now
      report()
    }
  }

  private func report() {
    series.report(
      &counters, host: table.host, connectionsOpen: shared.connectionsOpen.load(ordering: .relaxed),
      multiplexedOpen: shared.multiplexedOpen.load(ordering: .relaxed))
    if let certificates { series.report(certificateExpiry: certificates.notValidAfter) }
  }
}
