import NIOCore
import NIOHTTP1
import WebSocketTransport

extension LoopState {
  /// What a target asks for here: on a port of its own WebSocket is all there is.
  func route(of target: RequestTarget) -> Route {
    guard limits.isWebSocketOnly else { return target.route }
    guard let path = limits.webSocketPath else { return .webSocket }
    return target.path.elementsEqual(path.utf8) ? .webSocket : .unrouted
  }
}

extension RequestTarget {
  /// What `?token=` in a target says.
  static func token(in target: String) -> String? {
    guard let mark = target.utf8.firstIndex(of: UInt8(ascii: "?")) else { return nil }
    for pair in target[target.utf8.index(after: mark)...].split(separator: "&") where pair.hasPrefix("token=") {
      let value = Array(pair.utf8.dropFirst(6))
      return value.withUnsafeBufferPointer { FormText.decode($0[...]) }
    }
    return nil
  }
}

extension Rights {
  /// What messages over a WebSocket may ask for.
  fileprivate var webSocket: WebSocketRights {
    var rights: WebSocketRights = []
    if contains(.read) { rights.insert(.read) }
    if contains(.list) { rights.insert(.list) }
    if contains(.receive) { rights.insert(.receive) }
    if contains(.delete) { rights.insert(.delete) }
    if contains(.schema) { rights.insert(.schema) }
    if contains(.health) { rights.insert(.health) }
    return rights
  }
}

/// From HTTP to WebSocket, on the same connection.
extension Connection {
  /// Answers 101 and hands the connection over, or says why not.
  func openWebSocket() {
    guard let limits = loop.limits.webSocket, let context else { return answerText(404, "404 Not Found") }
    guard stream == nil else { return answerText(400, "WebSocket is spoken over HTTP/1.1 here.") }
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
      admission = WebSocketAdmission(
        rights: current.rights.webSocket, meter: current.meter, isForwarded: current.isForwarded)
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
    let next = WebSocketConnection(
      webSockets, peer: Array(UnsafeBufferPointer(peer).prefix(peerCount)), admission: admission)
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
