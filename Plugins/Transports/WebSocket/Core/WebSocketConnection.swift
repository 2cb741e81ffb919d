import NIOCore
import NIOWebSocket
import PluginAPI
import TransportSupport

/// One WebSocket connection: takes messages from the frames, has the node answer them in whatever order it completes
/// them, sends events to its subscriptions, and keeps its bounds.
///
/// A message that the node answers at once is answered before the next is looked at. What cannot be executed now - as
/// many requests are in flight as may be, or the client does not read - waits, and while anything waits nothing more is
/// read from the socket. Frames gather in the loop's output buffer and go out when the read event ends.
public final class WebSocketConnection: ChannelDuplexHandler, @unchecked Sendable {
  // @unchecked: all state is confined to the connection's event loop. Completions on other threads touch `loop` only
  // (constant) and hop.
  public typealias InboundIn = WebSocketFrame
  public typealias OutboundIn = Never
  public typealias OutboundOut = ByteBuffer

  enum State {
    case open
    /// Our close frame is out; the client's is waited for, and nothing else of what it sends counts.
    case closeSent
    /// Both are out: the connection ends when what was written has gone.
    case closing
    case closed
  }

  let loop: WebSocketLoop
  /// Place in `loop.connections`; -1 when not in it.
  var index = -1
  private(set) var context: ChannelHandlerContext?
  var state = State.open

  // What comes in.
  /// The message whose last fragment is yet to come.
  var message: ByteBuffer?
  /// Bytes that the decoder holds of an unfinished frame.
  var holdsOfFrame = 0
  private var heldBytes = 0
  private var waiting: [ByteBuffer] = []
  private var waitingStart = 0
  private var waitingBytes = 0
  /// The handshake is over and everything that came with it has been handed on.
  private var hasBegun = false
  private var isReadHeld = false

  // What goes on.
  var calls: [NodeCall] = []
  var subscriptions: [Subscription] = []
  /// What the inbox has taken over for them and has not sent.
  var arrivals: [FeedInbox.Arrival] = []

  // What goes out.
  private(set) var isWriteStalled = false
  /// Within `flush`, which must not be entered again: NIO reports changes of writability from inside a write.
  private var isFlushing = false

  // CLOCK_MONOTONIC_COARSE; 0: not running.
  private var lastHeardNs: UInt64
  private var lastRequestNs: UInt64
  private var pingSinceNs: UInt64 = 0
  private var stalledSinceNs: UInt64 = 0
  private var closesAtNs: UInt64 = 0

  /// "192.0.2.7:50212", for `bp_call.peer`.
  let peer: [UInt8]
  let admission: WebSocketAdmission

  /// - Parameters:
  ///   - peer: who it is, as `bp_call.peer` says it.
  ///   - admission: what its requests may ask for.
  public init(_ loop: WebSocketLoop, peer: [UInt8], admission: WebSocketAdmission) {
    self.loop = loop
    self.admission = admission
    self.peer = peer
    lastHeardNs = coarseMonotonicNs()
    lastRequestNs = lastHeardNs
  }

  /// The channel's handlers, in order. The channel must allow half-closure of its input.
  public func handlers() -> [any ChannelHandler] {
    [ByteToMessageHandler(FrameDecoder(self, frameSizeBytesMax: loop.limits.messageSizeBytesMax)), self]
  }

  /// Begins to read. Until then it takes what was left over from the handshake.
  public func begin() {
    hasBegun = true
    guard context != nil else { return }
    // Whoever had the channel before kept back the reading that it was asked for.
    isReadHeld = true
    leaveIfQuiet()
    resumeReading()
  }

  // MARK: Life

  public func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    loop.add(self)
  }

  public func handlerRemoved(context: ChannelHandlerContext) { end() }

  public func channelInactive(context: ChannelHandlerContext) { end() }

  private func end() {
    guard context != nil else { return }
    context = nil
    state = .closed
    if loop.outputOwner === self { loop.recycleOutput() }
    giveUp()
    loop.remove(self)
  }

  /// Gives up everything that goes on: there is nobody left to hear of it.
  func giveUp() {
    message = nil
    holdsOfFrame = 0
    waiting = []
    (waitingStart, waitingBytes) = (0, 0)
    account()
    for call in calls where call.token != 0 {
      loop.table.host.table.pointee.cancel(loop.table.host.instance, call.token)
    }
    for subscription in subscriptions { end(subscription) }
    subscriptions = []
  }

  // MARK: Messages

  /// Executes a whole message, or lets it wait behind those before it.
  func accept(_ message: ByteBuffer) {
    if canExecute, waitingCount == 0 { return execute(message) }
    waiting.append(message)
    waitingBytes += message.readableBytes
    account()
  }

  private var waitingCount: Int { waiting.count - waitingStart }

  private var canExecute: Bool {
    guard state == .open, calls.count < loop.limits.requestsInFlightMax else { return false }
    if loop.outputOwner === self, loop.output.readableBytes > 256 << 10 { flush() }
    return !isWriteStalled
  }

  private func executeWaiting() {
    while waitingCount > 0, canExecute {
      let message = waiting[waitingStart]
      waiting[waitingStart] = ByteBuffer()
      waitingBytes -= message.readableBytes
      waitingStart += 1
      if waitingStart == waiting.count {
        waiting = []
        waitingStart = 0
      }
      execute(message)
    }
    account()
  }

  /// Brings the loop's sum of held bytes up to date.
  private func account() {
    let now = holdsOfFrame + (message?.readableBytes ?? 0) + waitingBytes
    loop.messagesSizeBytes += now - heldBytes
    heldBytes = now
  }

  func noteRequest() { lastRequestNs = coarseMonotonicNs() }

  /// The node has completed a call after it returned. On the loop.
  func completed(_ call: NodeCall, _ answer: () -> Void) {
    let last = calls.count - 1
    if call.index < last {
      calls[call.index] = calls[last]
      calls[call.index].index = call.index
    }
    calls.removeLast()
    loop.callEnded()
    if state == .open {
      answer()
      goOn()
    }
    loop.recycle(call)
  }

  /// After something that may have made room.
  private func goOn() {
    executeWaiting()
    leaveIfQuiet()
    loop.flushSoon()
    resumeReading()
  }

  // MARK: Back-pressure

  public func read(context: ChannelHandlerContext) {
    if shouldRead { context.read() } else { isReadHeld = true }
  }

  private var shouldRead: Bool {
    guard hasBegun else { return false }
    switch state {
    case .open:
      guard waitingCount == 0, !isWriteStalled, calls.count < loop.limits.requestsInFlightMax else { return false }
      // The last requests first: then it goes, unless it is in the middle of a message.
      return !loop.isDraining || calls.isEmpty
    case .closeSent, .closing: return true
    case .closed: return false
    }
  }

  func resumeReading() {
    guard isReadHeld, shouldRead, let context else { return }
    isReadHeld = false
    context.read()
  }

  public func channelReadComplete(context: ChannelHandlerContext) {
    account()
    if loop.messagesSizeBytes > loop.messagesSizeBytesMax, heldBytes > 0 {
      close(
        .overloaded, 1013,
        "The server is receiving as many bytes of messages as it may (messages_size_bytes_max); try again later.")
    }
    executeWaiting()
    leaveIfQuiet()
    if loop.outputOwner === self { flush() }
  }

  public func channelWritabilityChanged(context: ChannelHandlerContext) {
    isWriteStalled = !context.channel.isWritable
    stalledSinceNs = isWriteStalled ? coarseMonotonicNs() : 0
    guard !isWriteStalled else { return }
    guard isFlushing else { return goOnWriting() }
    // A large frame passed the watermark both ways within one write. Its bytes are still the loop's output: whatever is
    // written or flushed now would send them again.
    context.eventLoop.execute { self.goOnWriting() }
  }

  private func goOnWriting() {
    guard context != nil, !isWriteStalled else { return }
    for subscription in subscriptions { grant(subscription, atLeast: 1) }
    goOn()
  }

  // MARK: Output

  /// Hands what has gathered to NIO.
  func flush() {
    guard !isFlushing, loop.outputOwner === self else { return }
    if let context, loop.output.readableBytes > 0 {
      loop.counters.sentBytes += UInt64(loop.output.readableBytes)
      isFlushing = true
      context.writeAndFlush(wrapOutboundOut(loop.output), promise: nil)
      isFlushing = false
    }
    loop.recycleOutput()
    if isWriteStalled, state == .open { checkOutput() }
  }

  private func checkOutput() {
    guard let options = context?.channel.syncOptions,
      let bytes = try? options.getOption(ChannelOptions.bufferedWritableBytes), bytes > loop.limits.outputSizeBytesMax
    else { return }
    loop.counters.closed[CloseCause.outputTooLarge.rawValue] += 1
    closeNow()
  }

  // MARK: Goodbye

  /// While the loop drains: says goodbye when nothing has been asked that is not answered, and nothing is half received.
  func leaveIfQuiet() {
    guard loop.isDraining, hasBegun, heldBytes == 0 else { return }
    leaveIfIdle()
  }

  /// Says goodbye when no call is open, whatever is half received.
  func leaveIfIdle() {
    guard state == .open, calls.isEmpty, waitingCount == 0 else { return }
    close(.goingAway, 1001, "The server is being replaced; connect again.")
  }

  /// Begins the closing handshake. Nothing that comes later is looked at.
  func close(_ cause: CloseCause, _ code: UInt16, _ reason: String) {
    guard state == .open else { return }
    loop.counters.closed[cause.rawValue] += 1
    sendClose(code, reason)
    state = .closeSent
    closesAtNs = coarseMonotonicNs() + UInt64(loop.limits.closeTimeoutMs) * 1_000_000
    giveUp()
    flush()
    resumeReading()
  }

  /// Both sides have said goodbye, or the client is gone: ends when what was written has gone.
  func finish() {
    guard let context, state != .closing, state != .closed else { return }
    state = .closing
    if closesAtNs == 0 { closesAtNs = coarseMonotonicNs() + UInt64(loop.limits.closeTimeoutMs) * 1_000_000 }
    giveUp()
    flush()
    let channel = context.channel
    let promise = context.eventLoop.makePromise(of: Void.self)
    promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
    context.writeAndFlush(wrapOutboundOut(ByteBuffer()), promise: promise)
  }

  /// Closes without more ado.
  func closeNow() {
    guard let context else { return }
    context.close(promise: nil)
  }

  public func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard let event = event as? ChannelEvent, event == .inputClosed else { return }
    // Without a closing handshake, or after it: no more will come, and nobody waits for answers.
    finish()
  }

  public func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard state == .open else {
      if error is IOError { closeNow() }
      return
    }
    refuse(error)
    flush()
  }

  // MARK: Time

  func noteFrame() {
    lastHeardNs = coarseMonotonicNs()
    pingSinceNs = 0
  }

  /// Called at every tick of the loop.
  func check(_ now: UInt64) {
    guard context != nil else { return }
    guard state == .open else {
      if now > closesAtNs { closeNow() }
      return
    }
    if isWriteStalled, passed(now, stalledSinceNs, loop.limits.writeTimeoutMs) {
      loop.counters.closed[CloseCause.slowReader.rawValue] += 1
      return closeNow()
    }
    if pingSinceNs != 0 {
      if passed(now, pingSinceNs, loop.limits.pingTimeoutMs) {
        return close(.noPong, 1008, "No pong within \(loop.limits.pingTimeoutMs) ms (ping_timeout_ms).")
      }
    } else if passed(now, lastHeardNs, loop.limits.pingIntervalMs), !isWriteStalled, hasBegun {
      pingSinceNs = now
      sendPing()
    }
    if calls.isEmpty, subscriptions.isEmpty, heldBytes == 0, passed(now, lastRequestNs, loop.limits.idleTimeoutMs) {
      close(.idle, 1000, "No request within \(loop.limits.idleTimeoutMs) ms (idle_timeout_ms).")
    }
  }

  private func passed(_ now: UInt64, _ since: UInt64, _ limitMs: Int) -> Bool {
    now > since && now - since > UInt64(limitMs) * 1_000_000
  }
}
