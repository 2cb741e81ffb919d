import JSONText
import NIOCore
import PluginAPI
import Synchronization
import TransportSupport

/// What the loops of one transport share.
public final class WebSocketShared: Sendable {
  public let connectionsOpen = Atomic<Int>(0)
  let subscriptionsOpen = Atomic<Int>(0)

  public init() {}
}

/// What the WebSocket connections of one event loop share. Everything but the constants is touched on that loop alone.
public final class WebSocketLoop: @unchecked Sendable {
  // @unchecked: the mutable state is confined to the event loop; other threads use `eventLoop`, `table`, `limits`,
  // `state`, `shared` and `inbox` only, which never change or guard themselves.
  public let eventLoop: any EventLoop
  public let limits: WebSocketLimits
  let table: NodeTable
  /// Of the transport that this loop belongs to.
  let state: SharedState
  let shared: WebSocketShared
  let series: WebSocketSeries
  let scanner: JSONScanner
  let inbox: FeedInbox
  /// A connection has ended, or the last call of one that had ended before.
  private let onChange: (_ connectionsEnded: Int) -> Void

  /// Frames that have been written but not handed to NIO. It belongs to one connection at a time: whoever begins a frame
  /// flushes a former owner first.
  var output: ByteBuffer
  private(set) unowned(unsafe) var outputOwner: WebSocketConnection?
  private var isFlushScheduled = false
  /// The message that is being executed, when it came in one frame. A node that keeps it gets the memory.
  var input: ByteBuffer
  var textScratch: [UInt8] = []
  var patternScratch: [UInt8] = []
  /// For answers whose length is not known beforehand.
  var bodyScratch: [UInt8] = []

  private(set) var connections: [WebSocketConnection] = []
  /// Node calls without completion, those of closed connections included.
  private(set) var callsOpen = 0
  private var freeCalls: [NodeCall] = []
  /// Bytes of messages held by the connections of this loop.
  var messagesSizeBytes = 0
  let messagesSizeBytesMax: Int
  var counters = WebSocketCounters()
  private(set) var isDraining = false
  private var ticker: RepeatedTask?
  private var lastReportNs: UInt64 = 0

  /// - Parameter onChange: called on the loop when connections or calls have become fewer; its owner may be waiting for
  ///   `isEmpty`.
  public init(
    _ eventLoop: any EventLoop, table: NodeTable, limits: WebSocketLimits, state: SharedState, shared: WebSocketShared,
    series: WebSocketSeries, onChange: @escaping (_ connectionsEnded: Int) -> Void
  ) {
    self.eventLoop = eventLoop
    self.table = table
    self.limits = limits
    self.state = state
    self.shared = shared
    self.series = series
    self.onChange = onChange
    scanner = JSONScanner(depthMax: limits.jsonDepthMax)
    output = ByteBufferAllocator().buffer(capacity: Self.bufferCapacity)
    input = ByteBufferAllocator().buffer(capacity: 0)
    messagesSizeBytesMax = max(1, limits.messagesSizeBytesMax / limits.loops)
    inbox = FeedInbox(eventLoop, state)
    inbox.loop = self
  }

  private static let bufferCapacity = 16 << 10
  /// A bigger buffer is not kept.
  private static let bufferCapacityMax = 256 << 10

  // MARK: Life

  /// Starts the timer. On the loop.
  public func start() {
    let interval = tickInterval
    ticker = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { [weak self] _ in self?.tick() }
  }

  /// Whether no connection and no call is left. On the loop.
  public var isEmpty: Bool { connections.isEmpty && callsOpen == 0 }

  /// From now on connections are told to go: at once where nothing goes on, the others after what they have sent has
  /// been answered. On the loop.
  public func beginDraining() {
    isDraining = true
    for connection in connections.reversed() { connection.leaveIfQuiet() }
  }

  /// Says goodbye to every connection on which no call is open. On the loop.
  public func closeIdle() {
    for connection in connections.reversed() { connection.leaveIfIdle() }
  }

  /// Closes everything and gives up the calls that are still open. On the loop.
  public func closeAll() {
    isDraining = true
    for connection in connections.reversed() { connection.closeNow() }
  }

  /// On the loop, last.
  public func stop() {
    ticker?.cancel()
    ticker = nil
    report()
    inbox.loop = nil
  }

  func add(_ connection: WebSocketConnection) {
    connection.index = connections.count
    connections.append(connection)
    shared.connectionsOpen.add(1, ordering: .relaxed)
  }

  func remove(_ connection: WebSocketConnection) {
    let index = connection.index
    guard index >= 0 else { return }
    connection.index = -1
    if index < connections.count - 1 {
      connections[index] = connections[connections.count - 1]
      connections[index].index = index
    }
    connections.removeLast()
    shared.connectionsOpen.subtract(1, ordering: .relaxed)
    onChange(1)
  }

  // MARK: Calls

  func takeCall() -> NodeCall { freeCalls.popLast() ?? NodeCall() }

  func recycle(_ call: NodeCall) {
    call.clear()
    if freeCalls.count < 256 { freeCalls.append(call) }
  }

  func callBegan() { callsOpen += 1 }

  func callEnded() {
    callsOpen -= 1
    if callsOpen == 0 { onChange(0) }
  }

  // MARK: Output

  /// The output buffer, for a frame of `connection`.
  @inline(__always)
  func claimOutput(_ connection: WebSocketConnection) {
    if outputOwner !== connection {
      outputOwner?.flush()
      outputOwner = connection
    }
  }

  /// Makes the buffer ready for the next owner, after its bytes went to NIO.
  func recycleOutput() {
    outputOwner = nil
    if output.capacity > Self.bufferCapacityMax {
      output = ByteBufferAllocator().buffer(capacity: Self.bufferCapacity)
    } else {
      output.clear(minimumCapacity: Self.bufferCapacity)
    }
  }

  /// The memory for a message of `count` bytes, empty.
  func takeInput(_ count: Int) {
    if input.capacity > Self.bufferCapacityMax { input = ByteBufferAllocator().buffer(capacity: count) }
    input.clear(minimumCapacity: count)
  }

  /// Hands over what gathers until the loop has done what it is doing: several answers go out together.
  func flushSoon() {
    guard !isFlushScheduled else { return }
    isFlushScheduled = true
    eventLoop.execute {
      self.isFlushScheduled = false
      self.outputOwner?.flush()
    }
  }

  // MARK: Time

  /// Often enough for the shortest time-out, and at least once a second for the metrics.
  private var tickInterval: TimeAmount {
    let shortest = min(
      limits.writeTimeoutMs, limits.idleTimeoutMs, limits.pingIntervalMs, limits.pingTimeoutMs, limits.closeTimeoutMs)
    return .milliseconds(Int64(max(10, min(1_000, shortest / 2))))
  }

  private func tick() {
    let now = coarseMonotonicNs()
    // Backwards, because a connection that is closed here changes places with the last.
    var index = connections.count - 1
    while index >= 0 {
      if index < connections.count { connections[index].check(now) }
      index -= 1
    }
    outputOwner?.flush()
    if now &- lastReportNs >= 1_000_000_000 {
      lastReportNs = now
      report()
    }
  }

  private func report() {
    series.report(
      &counters, connectionsOpen: shared.connectionsOpen.load(ordering: .relaxed),
      subscriptionsOpen: shared.subscriptionsOpen.load(ordering: .relaxed))
  }
}
