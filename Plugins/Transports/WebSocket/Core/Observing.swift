import JSONText
import NIOCore
import PluginAPI
import TransportSupport

/// Subscriptions: `observe`, its events, `unobserve`.
extension WebSocketConnection {
  func observe(_ id: UnsafeRawBufferPointer, _ payload: JSONSlice?) {
    guard let feed = loop.table.feed else { return fail(id, "This node has no feed to observe (backplane.feed/1).") }
    var prefix: JSONSlice?
    var after: JSONSlice?
    var data: JSONSlice?
    if let members = payload?.members {
      for (key, value) in members {
        if key.isText("uri") {
          prefix = value
        } else if key.isText("after") {
          after = value
        } else if key.isText("data") {
          data = value
        }
      }
    }
    guard let prefix, prefix.kind == .string else {
      return fail(id, "Invalid request format: expected a payload with a uri; an empty one observes everything")
    }
    var place: (epoch: UInt64, position: UInt64) = (0, 0)
    if let after, after.kind != .null {
      guard let text = after.text, let parsed = FeedPlaceText.parse(text) else {
        return fail(id, "after is no place: send one back as it came")
      }
      place = parsed
    }
    let bytes = Array(id)
    guard !subscriptions.contains(where: { $0.id == bytes }) else {
      return fail(id, "A subscription of this connection has this id already.")
    }
    guard subscriptions.count < loop.limits.subscriptionsMax else {
      return fail(id, "This connection has \(loop.limits.subscriptionsMax) subscriptions (subscriptions_max).")
    }
    let subscription = Subscription(self, id: bytes, wantsData: data?.kind != .false)
    subscriptions.append(subscription)
    loop.shared.subscriptionsOpen.add(1, ordering: .relaxed)
    prefix.withText(scratch: &loop.textScratch) { text in
      var request = bp_subscribe(
        size: .size(of: bp_subscribe.self), flags: subscription.wantsData ? 0 : BP_SUBSCRIBE_WITHOUT_DATA,
        prefix: bp_view(text), epoch: place.epoch, position: place.position,
        credits: UInt32(loop.limits.subscriptionEventsMax), reserved: 0)
      // The answer comes with the first item, or with the end.
      subscription.token = withCallHeader(deadline: false) {
        feed.pointee.subscribe(loop.table.host.instance, &$0, &request, subscription.completion)
      }
    }
  }

  func unobserve(_ id: UnsafeRawBufferPointer, _ payload: JSONSlice?) {
    let wanted = payload?.member("subscription").map { Array($0.bytes) }
    guard let index = subscriptions.firstIndex(where: { $0.id == wanted }) else {
      return answer(id, "{\"success\":false,\"error\":\"Not found: no subscription of this connection has this id\"}")
    }
    let subscription = subscriptions.remove(at: index)
    end(subscription)
    if !subscription.isAnswered {
      subscription.isAnswered = true
      subscription.id.withUnsafeBytes { fail($0, "Ended by unobserve.") }
    }
    answer(id, "{\"success\":true}")
  }

  /// Nobody wants its events any more. It is out of `subscriptions`, or about to be.
  func end(_ subscription: Subscription) {
    guard !subscription.hasEnded else { return }
    subscription.hasEnded = true
    loop.shared.subscriptionsOpen.subtract(1, ordering: .relaxed)
    if subscription.token != 0 {
      loop.table.host.table.pointee.cancel(loop.table.host.instance, subscription.token)
    }
  }

  // MARK: Events

  private static let eventHead: StaticString = "{\"type\":\"event\",\"subscription\":"

  /// An item has come. On the loop.
  func send(_ text: EventText, to subscription: Subscription) {
    guard !subscription.hasEnded, state == .open else { return }
    if text.isPlace, !subscription.isAnswered {
      subscription.isAnswered = true
      var data = Array("{".utf8)
      // Without the comma in front.
      data.append(contentsOf: text.bytes.dropFirst())
      subscription.id.withUnsafeBytes { answer($0, data) }
    } else {
      if !text.isPlace { loop.counters.events += 1 }
      sendText(length: Self.eventHead.utf8CodeUnitCount + subscription.id.count + text.bytes.count) { cursor in
        cursor.put(Self.eventHead)
        cursor.put(subscription.id)
        cursor.put(text.bytes)
      }
    }
    if text.isGap { loop.counters.gaps += 1 }
    subscription.owedCredits += 1
    if loop.output.readableBytes > 256 << 10 { flush() }
    grant(subscription, atLeast: UInt32(loop.limits.subscriptionEventsMax) / 2)
  }

  /// Allows as many events more as were written, while the client reads.
  func grant(_ subscription: Subscription, atLeast count: UInt32) {
    guard !isWriteStalled, !subscription.hasEnded, subscription.owedCredits >= max(1, count) else { return }
    let credits = subscription.owedCredits
    subscription.owedCredits = 0
    _ = loop.table.host.table.pointee.grant(loop.table.host.instance, subscription.token, credits)
  }

  /// The node has ended a subscription, or refused it. On the loop.
  func ended(_ subscription: Subscription, _ code: bp_code, _ message: String) {
    guard !subscription.hasEnded else { return }
    subscription.token = 0
    end(subscription)
    subscriptions.removeAll { $0 === subscription }
    guard state == .open else { return }
    let text = message.isEmpty ? "The node has ended the subscription." : message
    if !subscription.isAnswered {
      subscription.isAnswered = true
      return subscription.id.withUnsafeBytes { fail($0, text) }
    }
    var tail = Array(",\"ended\":true,\"error\":".utf8)
    JSONWriter.appendString(text, to: &tail)
    tail.append(UInt8(ascii: "}"))
    sendText(length: Self.eventHead.utf8CodeUnitCount + subscription.id.count + tail.count) { cursor in
      cursor.put(Self.eventHead)
      cursor.put(subscription.id)
      cursor.put(tail)
    }
  }
}
