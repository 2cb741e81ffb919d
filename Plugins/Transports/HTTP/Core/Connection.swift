import Glibc
import NIOCore
import NIOHTTP1
import NIOSSL
import PluginAPI
import TransportSupport
import WebSocketTransport

/// One connection: takes requests from the decoder, has them answered one after the other, and keeps its bounds.
///
/// Requests are executed in order, one at a time. One that the node completes at once is answered before the next is
/// looked at, without a queue; while one waits for its completion, those behind it queue, and as soon as one does no
/// more is read from the socket. Answers gather in the loop's output buffer and go out when the read event ends, or together
/// with those to others of the same turn of the loop (`HeldAnswers`).
final class Connection: ChannelDuplexHandler, RemovableChannelHandler, @unchecked Sendable {
  // @unchecked: all state is confined to the connection's event loop. Completions on other threads touch `loop` only
  // (constant) and hop.
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundIn = Never
  typealias OutboundOut = ByteBuffer

  /// What the decoder's next part means.
  private enum Reception { case head, body, ignored }
  enum Phase { case idle, submitting, inFlight }

  let loop: LoopState
  /// What carries this connection's one request, in place of a socket; nil: HTTP/1.1.
  let stream: HTTP2Stream?
  /// The socket's, for a last look before it is closed. Valid while `context` is not nil.
  private let descriptor: CInt
  let isRefused: Bool
  /// Place in `loop.connections`; -1 when not in it.
  var index = -1
  private(set) var wasAdded = false

  private(set) var context: ChannelHandlerContext?
  private var reception = Reception.head
  private var incoming = Request()
  private var waiting: [Request] = []
  private var waitingStart = 0

  /// The request that is being answered.
  var current = Request()
  var route = Route.unrouted
  var phase = Phase.idle
  var completedInline = false
  var token: bp_token = 0

  /// The last answer has been written, or is about to be: nothing further is executed.
  var isClosing = false
  private var isLingering = false
  private(set) var isInputClosed = false
  /// The 101 is out: nothing more is read here.
  var isUpgrading = false
  var admission = WebSocketAdmission()
  private var isReadHeld = false
  private var sawPart = false
  private var isWriteStalled = false
  /// Within `flush`, which must not be entered again: NIO reports changes of writability from inside a write.
  private var isFlushing = false
  /// Something was written that is flushed with other connections' answers.
  private var isHeld = false

  // CLOCK_MONOTONIC_COARSE; 0: not running.
  private var headSinceNs: UInt64 = 0
  private var bodySinceNs: UInt64 = 0
  private var stalledSinceNs: UInt64 = 0
  private var lingersUntilNs: UInt64 = 0
  private var handshakeSinceNs: UInt64 = 0
  private var lastActivityNs: UInt64

  /// "192.0.2.7:50212", for `bp_call.peer`. Never moves.
  let peer: UnsafeMutableBufferPointer<UInt8>
  private(set) var peerCount = 0

  init(_ loop: LoopState, descriptor: CInt, isRefused: Bool) {
    self.loop = loop
    stream = nil
    self.descriptor = descriptor
    self.isRefused = isRefused
    lastActivityNs = coarseMonotonicNs()
    peer = .allocate(capacity: 64)
  }

  init(_ stream: HTTP2Stream) {
    loop = stream.parent.loop
    self.stream = stream
    descriptor = -1
    isRefused = stream.parent.isRefused
    lastActivityNs = coarseMonotonicNs()
    peer = .allocate(capacity: 64)
  }

  deinit { peer.deallocate() }

  // MARK: Life

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if let stream {
      peerCount = stream.parent.peer.count
      _ = peer.initialize(from: stream.parent.peer)
    } else if let address = context.remoteAddress, let ip = address.ipAddress, let port = address.port {
      let text = ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
      peerCount = min(text.utf8.count, peer.count)
      _ = peer.initialize(from: text.utf8.prefix(peerCount))
    }
    loop.add(self)
    wasAdded = true
    if loop.certificates != nil, stream == nil { handshakeSinceNs = lastActivityNs }
    if isRefused, stream == nil {
      loop.counters.connectionsRefused += 1
      // A refused connection gets little time to send the request that its 503 answers.
      headSinceNs = lastActivityNs
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) { end() }

  func channelInactive(context: ChannelHandlerContext) { end() }

  private func end() {
    guard context != nil else { return }
    context = nil
    isClosing = true
    reception = .ignored
    if loop.outputOwner === self { loop.recycleOutput() }
    release(&incoming)
    dropWaiting()
    if phase == .inFlight, token != 0 {
      loop.table.host.table.pointee.cancel(loop.table.host.instance, token)
    }
    loop.remove(self)
  }

  // MARK: The handshake of TLS

  func handshakeEnded() { handshakeSinceNs = 0 }

  /// What comes next is the end of the connection.
  func handshakeFailed(_ reason: any Error) {
    loop.counters.handshakesFailed += 1
    let name = String(decoding: peer[..<peerCount], as: UTF8.self)
    loop.table.log.debug("a TLS handshake failed", ["peer": name, "reason": "\(reason)"])
  }

  // MARK: Requests come in

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      sawPart = true
      guard reception == .head, !isClosing else { return }
      headSinceNs = 0
      incoming = Request(head, limits: loop.limits)
      if isRefused { incoming.refusal = .tooManyConnections }
      if incoming.refusal != .none { return refuse(incoming.refusal) }
      if let access = loop.limits.access {
        let verdict = admit(head, access)
        incoming.refusal = verdict.refusal
        incoming.retryAfterSeconds = UInt32(clamping: verdict.retryAfterSeconds)
        incoming.rights = verdict.rights
        incoming.meter = verdict.meter
        // Whoever waits for a word before sending the body gets the answer instead.
        if incoming.wantsContinue, verdict.refusal != .none { return refuse(verdict.refusal) }
      }
      reception = .body
      if incoming.wantsContinue, incoming.hasBody, phase == .idle, waitingCount == 0 { sendContinue() }
    case .body(let bytes):
      sawPart = true
      guard reception == .body else { return }
      take(bytes)
    case .end:
      sawPart = true
      guard reception == .body else { return }
      reception = .head
      bodySinceNs = 0
      let request = incoming
      incoming = Request()
      accept(request)
    }
  }

  private func take(_ bytes: ByteBuffer) {
    let count = bytes.readableBytes
    if incoming.refusal != .none {
      // A denied request's body is thrown away while it is small; the connection can go on then.
      incoming.droppedSizeBytes += UInt32(clamping: count)
      if incoming.droppedSizeBytes > Limits.droppedSizeBytesMax { refuse(incoming.refusal) }
      return
    }
    if (incoming.body?.readableBytes ?? 0) + count > loop.limits.bodySizeBytesMax { return refuse(.bodyTooLarge) }
    if loop.bodiesSizeBytes + count > loop.bodiesSizeBytesMax { return refuse(.bodiesTooLarge) }
    loop.bodiesSizeBytes += count
    if incoming.body == nil {
      // A slice of what was read: most bodies need no copy at all.
      incoming.body = bytes
    } else {
      incoming.body!.writeImmutableBuffer(bytes)
    }
  }

  /// Executes a complete request, or queues it behind those before it.
  private func accept(_ request: Request) {
    if phase == .idle, waitingCount == 0, !isClosing, !loop.isDraining, canWrite() {
      execute(request)
      return
    }
    if isClosing {
      var dropped = request
      release(&dropped)
      return
    }
    waiting.append(request)
    if waitingCount > loop.limits.pipelinedRequestsMax, request.refusal == .none { refuse(.tooManyPipelined) }
  }

  /// Answers in turn with a refusal and closes; nothing that comes later is looked at.
  private func refuse(_ reason: Refusal) {
    guard reception != .ignored else { return }
    var request = incoming
    release(&request)
    request.refusal = reason
    request.keepsAlive = false
    incoming = Request()
    reception = .ignored
    (headSinceNs, bodySinceNs) = (0, 0)
    if reason == .timedOut { loop.counters.timeouts += 1 }
    accept(request)
  }

  private func sendContinue() {
    incoming.wantsContinue = false
    loop.claimOutput(self)
    loop.output.writeStaticString("HTTP/1.1 100 Continue\r\n\r\n")
    flush()
  }

  private var waitingCount: Int { waiting.count - waitingStart }
  var hasWaiting: Bool { waitingCount > 0 }

  private func executeWaiting() {
    while waitingCount > 0, phase == .idle, !isClosing, canWrite() {
      let request = waiting[waitingStart]
      waiting[waitingStart] = Request()
      waitingStart += 1
      if waitingStart == waiting.count {
        waiting.removeAll(keepingCapacity: false)
        waitingStart = 0
      }
      execute(request)
    }
    if isClosing { dropWaiting() }
    if incoming.wantsContinue, reception == .body, phase == .idle, waitingCount == 0, !isClosing { sendContinue() }
  }

  private func dropWaiting() {
    for index in waitingStart..<waiting.count { release(&waiting[index]) }
    waiting.removeAll(keepingCapacity: false)
    waitingStart = 0
  }

  /// Gives back what a request's body holds.
  func release(_ request: inout Request) {
    guard let body = request.body else { return }
    loop.bodiesSizeBytes -= body.readableBytes
    request.body = nil
  }

  /// Whether there is room for an answer. Sends what has gathered when it is much.
  private func canWrite() -> Bool {
    if loop.outputOwner === self, loop.output.readableBytes > 256 << 10 { flush() }
    guard context?.channel.isWritable ?? false else { return false }
    return stream?.parent.mayAnswer(self) ?? true
  }

  /// The node has completed a call after it returned. On the loop.
  func completed(_ answer: () -> Void) {
    loop.callEnded()
    phase = .idle
    token = 0
    guard context != nil else { return release(&current) }
    answer()
    goOn()
  }

  /// After an answer that did not come within a read event.
  private func goOn() {
    release(&current)
    executeWaiting()
    flush()
    lastActivityNs = coarseMonotonicNs()
    resumeReading()
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if waitingCount > 0 { executeWaiting() }
    hold()
    stamp()
  }

  /// Notes when what is unfinished began.
  private func stamp() {
    let now = coarseMonotonicNs()
    lastActivityNs = now
    if reception == .body {
      if bodySinceNs == 0 { bodySinceNs = now }
    } else if reception == .head, !sawPart, headSinceNs == 0, phase == .idle {
      // Bytes came that are not yet a head.
      headSinceNs = now
    }
    sawPart = false
  }

  // MARK: Back-pressure

  func read(context: ChannelHandlerContext) {
    if shouldRead { context.read() } else { isReadHeld = true }
  }

  private var shouldRead: Bool {
    if isLingering { return true }
    return !isUpgrading && waitingCount == 0 && !isWriteStalled
  }

  private func resumeReading() {
    guard isReadHeld, shouldRead, let context else { return }
    isReadHeld = false
    context.read()
  }

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    isWriteStalled = !context.channel.isWritable
    stalledSinceNs = isWriteStalled ? coarseMonotonicNs() : 0
    guard !isWriteStalled else { return }
    guard isFlushing else { return goOnWriting() }
    // A large answer passed the watermark both ways within one write. Its bytes are still the loop's output: whatever is
    // written or flushed now would send them again.
    if waitingCount > 0 || isReadHeld { context.eventLoop.execute { self.goOnWriting() } }
  }

  func goOnWriting() {
    guard context != nil, !isWriteStalled, phase == .idle else { return }
    executeWaiting()
    flush()
    resumeReading()
  }

  // MARK: Answers go out

  /// Hands what has gathered to NIO and, after the last answer, begins to close.
  func flush() {
    guard !isFlushing else { return }
    if loop.outputOwner === self {
      if let context, loop.output.readableBytes > 0 {
        loop.counters.sentBytes += UInt64(loop.output.readableBytes)
        isFlushing = true
        context.writeAndFlush(wrapOutboundOut(loop.output), promise: nil)
        isFlushing = false
      }
      loop.recycleOutput()
    }
    if isClosing, !isLingering, !isUpgrading, phase == .idle { beginLingering() }
  }

  /// As `flush`, for answers that came about within a read event: what can wait for a moment does, see `HeldAnswers`.
  private func hold() {
    guard let context, stream == nil, !isClosing, !isHeld, loop.outputOwner === self,
      (1...LoopState.outputCapacity).contains(loop.output.readableBytes)
    else { return flush() }
    loop.counters.sentBytes += UInt64(loop.output.readableBytes)
    isHeld = true
    isFlushing = true
    context.write(wrapOutboundOut(loop.output), promise: nil)
    isFlushing = false
    loop.holdOutput(self)
  }

  func sendHeld() {
    guard isHeld else { return }
    isHeld = false
    context?.flush()
  }

  /// Half-closes and waits for the peer to close, throwing away what it still sends: closing at once would reset the
  /// connection when unread bytes are there, and the reset may overtake the last answer.
  private func beginLingering() {
    guard let context else { return }
    sendHeld()
    isLingering = true
    reception = .ignored
    release(&incoming)
    dropWaiting()
    lingersUntilNs = coarseMonotonicNs() + UInt64(loop.limits.lingerTimeoutMs) * 1_000_000
    if isInputClosed {
      // Both sides are done; closing waits for what has been written.
      let promise = context.eventLoop.makePromise(of: Void.self)
      let channel = context.channel
      promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
      context.writeAndFlush(wrapOutboundOut(ByteBuffer()), promise: promise)
    } else {
      context.close(mode: .output, promise: nil)
      resumeReading()
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard let event = event as? ChannelEvent, event == .inputClosed else { return }
    isInputClosed = true
    if isLingering || isUpgrading {
      context.close(promise: nil)
    } else if phase == .idle, waitingCount == 0 {
      isClosing = true
      flush()
    } else {
      // The client has said all it wanted to and waits for its answers.
      reception = .ignored
      closesWhenAnswered = true
    }
  }

  /// The client sends no more: the last waiting answer is the last of the connection.
  private(set) var closesWhenAnswered = false

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard !isLingering else {
      if error is IOError { context.close(promise: nil) }
      return
    }
    guard let error = error as? HTTPParserError else {
      // The end of the input says all that there is to say: HTTP knows by itself where a message ends.
      if case NIOSSLError.uncleanShutdown = error { return }
      context.close(promise: nil)
      return
    }
    if isInputClosed || reception == .ignored {
      // Cut off in the middle of a request.
      if phase == .idle, waitingCount == 0 { context.close(promise: nil) } else { closesWhenAnswered = true }
      return
    }
    switch error {
    case .headerOverflow: refuse(.headerTooLarge)
    case .invalidVersion: refuse(.unsupportedVersion)
    default: refuse(.malformed)
    }
    // The decoder may report after the read event has ended.
    executeWaiting()
    flush()
  }

  // MARK: Time

  /// Called at every tick of the loop.
  func check(_ now: UInt64) {
    guard let context else { return }
    if handshakeSinceNs != 0 {
      if passed(now, handshakeSinceNs, loop.limits.handshakeTimeoutMs) {
        handshakeSinceNs = 0
        isLingering = true
        loop.counters.timeouts += 1
        handshakeFailed(ChannelError.connectTimeout(.milliseconds(Int64(loop.limits.handshakeTimeoutMs))))
        context.close(promise: nil)
      }
      return
    }
    if let stream, stream.isAnswered {
      // How long its bytes may take is the client's business, as long as it takes some.
      if passed(now, stream.progressNs, loop.limits.writeTimeoutMs) {
        loop.counters.timeouts += 1
        context.close(promise: nil)
      }
      return
    }
    if isLingering {
      if now > lingersUntilNs { context.close(promise: nil) }
    } else if isWriteStalled {
      if passed(now, stalledSinceNs, loop.limits.writeTimeoutMs) {
        loop.counters.timeouts += 1
        context.close(promise: nil)
      }
    } else if phase == .inFlight || waitingCount > 0 {
      return
    } else if reception == .body, bodySinceNs != 0 {
      if passed(now, bodySinceNs, loop.limits.bodyTimeoutMs) { refuse(.timedOut) }
    } else if headSinceNs != 0 {
      if passed(now, headSinceNs, loop.limits.headerTimeoutMs) { refuse(.timedOut) }
    } else if passed(now, lastActivityNs, loop.limits.idleTimeoutMs) {
      closeQuietly()
    }
    executeWaiting()
    flush()
  }

  private func passed(_ now: UInt64, _ since: UInt64, _ limitMs: Int) -> Bool {
    now > since && now - since > UInt64(limitMs) * 1_000_000
  }

  /// Whether nothing is being received or answered.
  var isQuiet: Bool {
    phase == .idle && waitingCount == 0 && reception == .head && headSinceNs == 0 && !isLingering && !isUpgrading
  }

  /// Closes an idle connection, unless bytes of a request have come meanwhile.
  func closeQuietly() {
    guard context != nil, !isLingering else { return }
    var byte: UInt8 = 0
    if recv(descriptor, &byte, 1, CInt(MSG_PEEK) | CInt(MSG_DONTWAIT)) > 0 { return }
    isClosing = true
    flush()
  }

  /// Closes without more ado.
  func closeNow() {
    guard let context else { return }
    sendHeld()
    isClosing = true
    context.close(promise: nil)
  }
}
