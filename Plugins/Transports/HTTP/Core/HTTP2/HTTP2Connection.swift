import NIOCore
import TransportSupport
import NIOHPACK
import NIOHTTP2

/// One socket that carries HTTP/2: watches over its streams, each of which has a `Connection` of its own.
///
/// Frames, settings, flow control and floods are NIOHTTP2's business; a graceful end (two GOAWAYs with a ping between
/// them) is its connection management's. Here is what this transport bounds: time without a stream, answers that wait
/// for a client that does not read, and how it all ends.
final class HTTP2Connection: ChannelInboundHandler, @unchecked Sendable {
  // @unchecked: everything is confined to the connection's event loop; `loop`, `peer` and `isRefused` never change.
  typealias InboundIn = HTTP2Frame

  let loop: LoopState
  /// As `Connection.peer`.
  let peer: [UInt8]
  /// Above `connections_max`: every stream is answered 503.
  let isRefused: Bool
  /// Place in `loop.multiplexed`; -1 when not in it.
  var index = -1

  private var context: ChannelHandlerContext?
  private var streamsOpen = 0
  private var isQuiescing = false
  /// The client's settings have come: before that nothing but settings may be sent.
  private var isReady = false
  private var quiescesWhenReady = false
  private var isFailed = false
  // CLOCK_MONOTONIC_COARSE.
  private var idleSinceNs = coarseMonotonicNs()
  private var stalledSinceNs: UInt64 = 0
  private var closesByNs: UInt64 = 0

  /// Bytes of answers that have been written to streams and not yet to the socket.
  private var answersSizeBytes = 0
  /// Streams that may not answer before others have got rid of theirs.
  private var waiting: [Connection] = []

  init(_ loop: LoopState, peer: [UInt8], isRefused: Bool) {
    self.loop = loop
    self.peer = peer
    self.isRefused = isRefused
  }

  /// What NIOHTTP2 needs to know of the bounds.
  static func configuration(_ limits: Limits) -> NIOHTTP2Handler.Configuration {
    var configuration = NIOHTTP2Handler.Configuration()
    configuration.connection.initialSettings = [
      HTTP2Setting(parameter: .maxConcurrentStreams, value: limits.streamsMax),
      // As for HTTP/1.1: a bit more than is allowed is still decoded, to be refused with an answer.
      HTTP2Setting(
        parameter: .maxHeaderListSize, value: max(limits.headerSizeBytesMax, 16 << 10) + 2 * limits.uriSizeBytesMax),
      HTTP2Setting(parameter: .initialWindowSize, value: windowSizeBytes),
    ]
    configuration.connection.targetWindowSize = 4 * windowSizeBytes
    configuration.stream.targetWindowSize = windowSizeBytes
    configuration.stream.outboundBufferSizeHighWatermark = 64 << 10
    configuration.stream.outboundBufferSizeLowWatermark = 32 << 10
    return configuration
  }

  /// What a client may send of a body before it is taken in.
  private static let windowSizeBytes = 256 << 10

  // MARK: Life

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    loop.add(self)
    if loop.isDraining || isRefused { quiesce() }
  }

  func handlerRemoved(context: ChannelHandlerContext) { end() }

  func channelInactive(context: ChannelHandlerContext) {
    context.fireChannelInactive()
    end()
  }

  private func end() {
    guard context != nil else { return }
    context = nil
    waiting = []
    loop.remove(self)
  }

  func streamOpened() { streamsOpen += 1 }

  func streamClosed() {
    streamsOpen -= 1
    guard streamsOpen == 0 else { return }
    idleSinceNs = coarseMonotonicNs()
    if isFailed { closeNow() }
  }

  /// What is not of a stream: the first is the client's settings.
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard !isReady else { return }
    isReady = true
    if quiescesWhenReady { loop.eventLoop.execute { self.quiesce() } }
  }

  /// Takes no new streams, lets those that are open finish, and closes.
  func quiesce() {
    guard let context, !isQuiescing else { return }
    guard isReady else {
      quiescesWhenReady = true
      return
    }
    isQuiescing = true
    idleSinceNs = coarseMonotonicNs()
    context.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
  }

  var isQuiet: Bool { streamsOpen == 0 }

  /// Closes without more ado.
  func closeNow() { context?.close(promise: nil) }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    guard let event = event as? ChannelEvent, event == .inputClosed else { return }
    // The client has gone, or wants nothing but the answers that are due. What it has not asked to the end stays unasked.
    isFailed = true
    if streamsOpen == 0 { return closeNow() }
    for connection in loop.connections {
      if let stream = connection.stream, stream.parent === self, !stream.isInputEnded { connection.closeNow() }
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    switch error {
    case is NIOHTTP2Errors.ExcessiveRSTFrames, is NIOHTTP2Errors.ExcessiveControlFrames,
      is NIOHTTP2Errors.ExcessiveEmptyDataFrames, is NIOHTTP2Errors.ExcessiveStreamErrors,
      is NIOHTTP2Errors.ExcessiveNumberOfGlitches, is NIOHTTP2Errors.ExcessiveContinuationFrames,
      is NIOHTTP2Errors.ExcessiveOutboundFrameBuffering:
      loop.counters.floods += 1
      fail()
    case is NIOHTTP2Errors.UnableToParseFrame, is NIOHTTP2Errors.BadClientMagic,
      is NIOHTTP2Errors.ExcessivelyLargeHeaderBlock, is NIOHTTP2Errors.InvalidSetting,
      is NIOHTTP2Errors.ReceivedBadSettings, is NIOHTTP2Errors.MissingPreface,
      is NIOHTTP2Errors.InvalidStreamIDForPeer, is NIOHTTP2Errors.RaisedGoawayLastStreamID,
      is NIOHTTP2Errors.PushInViolationOfSetting, is NIOHTTP2Errors.IOOnClosedConnection,
      is NIOHTTP2Errors.MaxStreamsViolation:
      fail()
    case is NIOHTTP2Errors.BadStreamStateTransition, is NIOHTTP2Errors.NoSuchStream,
      is NIOHTTP2Errors.InvalidWindowIncrementSize:
      // Of a stream or of the connection; NIOHTTP2 has told the client which. What is open may finish.
      quiesce()
    default:
      // A stream's errors come by here on their way; they end the stream alone.
      if error is IOError || error is ChannelError { closeNow() }
    }
  }

  /// The client has been sent a GOAWAY that says what it did wrong; nothing that it says now counts.
  private func fail() {
    guard let context, !isFailed else { return }
    isFailed = true
    closesByNs = coarseMonotonicNs() + UInt64(loop.limits.lingerTimeoutMs) * 1_000_000
    // A close with unread bytes would reset the connection, and the reset might overtake the GOAWAY.
    context.close(mode: .output, promise: nil)
  }

  // MARK: Back-pressure

  func channelWritabilityChanged(context: ChannelHandlerContext) {
    stalledSinceNs = context.channel.isWritable ? 0 : coarseMonotonicNs()
  }

  /// Whether a stream may answer now; if not, it is told when it may.
  func mayAnswer(_ connection: Connection) -> Bool {
    if answersSizeBytes < loop.limits.answersSizeBytesMax { return true }
    if !waiting.contains(where: { $0 === connection }) { waiting.append(connection) }
    return false
  }

  func answerQueued(_ sizeBytes: Int) { answersSizeBytes += sizeBytes }

  func answerWritten(_ sizeBytes: Int) {
    answersSizeBytes -= sizeBytes
    guard !waiting.isEmpty, answersSizeBytes < loop.limits.answersSizeBytesMax, context != nil else { return }
    let resumed = waiting
    waiting = []
    // Not from within a write of another stream.
    loop.eventLoop.execute { for connection in resumed { connection.goOnWriting() } }
  }

  // MARK: Time

  /// Called at every tick of the loop.
  func check(_ now: UInt64) {
    guard context != nil else { return }
    func passed(_ since: UInt64, _ limitMs: Int) -> Bool {
      now > since && now - since > UInt64(limitMs) * 1_000_000
    }
    if isFailed {
      if closesByNs != 0, now > closesByNs { closeNow() }
    } else if stalledSinceNs != 0 {
      guard passed(stalledSinceNs, loop.limits.writeTimeoutMs) else { return }
      loop.counters.timeouts += 1
      closeNow()
    } else if streamsOpen == 0 {
      // While it ends, what is waited for is the answer to a ping.
      if isQuiescing {
        if passed(idleSinceNs, loop.limits.lingerTimeoutMs) { closeNow() }
      } else if !isReady {
        if passed(idleSinceNs, loop.limits.headerTimeoutMs) { closeNow() }
      } else if passed(idleSinceNs, loop.limits.idleTimeoutMs) {
        quiesce()
      }
    }
  }
}
