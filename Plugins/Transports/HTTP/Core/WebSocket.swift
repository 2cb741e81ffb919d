import NIOCore
import NIOHTTP1
import WebSocketTransport

/// From HTTP to WebSocket, on the same connection.
extension Connection {
  /// On a port of its own WebSocket is all there is.
  func webSocketRoute(_ target: RequestTarget) -> Route {
    guard let path = loop.limits.webSocketPath else { return .webSocket }
    return target.path.elementsEqual(path.utf8) ? .webSocket : .unrouted
  }

  /// Answers 101 and hands the connection over, or says why not.
  func openWebSocket() {
    guard let limits = loop.limits.webSocket, let context else { return answerText(404, "404 Not Found") }
    guard loop.webSocketShared.connectionsOpen.load(ordering: .relaxed) < limits.connectionsMax else {
      return answerText(
        503, "The server has as many WebSocket connections as it may; try again later.", retryAfterSeconds: 1)
    }
    switch WebSocketHandshake.answer(current.upgrade, limits: limits, channel: context.channel) {
    case .failure(let refusal):
      let text = refusal.text
      answer(
        refusal.status, "text/plain; charset=UTF-8", bodyLength: text.utf8.count,
        extra: refusal.namesVersion ? "upgrade: websocket\r\nsec-websocket-version: 13\r\n" : ""
      ) { $0.put(text) }
    case .success(var head):
      isUpgrading = true
      isClosing = true
      loop.claimOutput(self)
      loop.output.writeBuffer(&head)
      flush()
      // The decoder is in the middle of what it has read: what it still finds there must not meet another handler.
      context.eventLoop.execute { self.becomeWebSocket() }
    }
  }

  private func becomeWebSocket() {
    guard let context else { return }
    let pipeline = context.pipeline.syncOperations
    guard !isInputClosed,
      let decoder = try? pipeline.handler(type: ByteToMessageHandler<HTTPRequestDecoder>.self),
      let webSockets = loop.webSockets
    else { return context.close(promise: nil) }
    let next = WebSocketConnection(webSockets, peer: Array(UnsafeBufferPointer(peer).prefix(peerCount)))
    do {
      try pipeline.addHandlers(next.handlers(), position: .after(self))
    } catch {
      return context.close(promise: nil)
    }
    loop.handOver(self)
    pipeline.removeHandler(self, promise: nil)
    // What the client has sent behind its request goes to the next handler.
    let promise = webSockets.eventLoop.makePromise(of: Void.self)
    promise.futureResult.whenComplete { _ in next.begin() }
    pipeline.removeHandler(decoder, promise: promise)
  }
}
