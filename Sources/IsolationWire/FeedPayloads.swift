import BackplaneABI

// The feed of accepted messages: a subscription is a call to the node whose items come as `feedItem`, as far as the
// plugin has granted credits.

extension Connection {
  public func sendSubscribe(_ id: UInt64, _ call: bp_call, _ request: UnsafePointer<bp_subscribe>) -> Outcome {
    send(.nodeSubscribe, id, SubscribePayload(call: call, request: request), isUrgent: false)
  }

  /// `credits` more items of a subscription of the plugin's.
  @discardableResult
  public func sendGrantNode(_ id: UInt64, credits: UInt32) -> Outcome {
    send(.grantNode, id, NumberPayload(value: UInt64(credits)), isUrgent: true)
  }

  @discardableResult
  public func sendFeedItem(_ id: UInt64, _ item: UnsafePointer<bp_feed_item>) -> Outcome {
    send(.feedItem, id, FeedItemPayload(item: item), isUrgent: true)
  }
}

private struct SubscribePayload: WirePayload {
  let call: bp_call
  let request: UnsafePointer<bp_subscribe>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(call)
    sink.put(request.pointee.flags)
    sink.put(request.pointee.epoch)
    sink.put(request.pointee.position)
    sink.put(request.pointee.credits)
    sink.put(request.pointee.prefix)
  }
}

private struct FeedItemPayload: WirePayload {
  let item: UnsafePointer<bp_feed_item>

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(item.pointee.flags)
    sink.put(item.pointee.verb)
    sink.put(item.pointee.content)
    sink.put(item.pointee.epoch)
    sink.put(item.pointee.position)
    sink.put(item.pointee.ts_ms)
    sink.put(item.pointee.version)
    sink.put(item.pointee.uri)
    sink.put(item.pointee.data)
  }
}

extension ReceivedNodeCall {
  public static func subscribe(_ payload: UnsafeRawBufferPointer) -> (call: bp_call, request: bp_subscribe)? {
    var reader = WireReader(payload)
    let call = reader.call()
    var request = bp_subscribe()
    request.size = UInt32(MemoryLayout<bp_subscribe>.size)
    request.flags = reader.u32()
    request.epoch = reader.u64()
    request.position = reader.u64()
    request.credits = reader.u32()
    request.prefix = reader.view()
    return reader.isWhole ? (call, request) : nil
  }

  /// One item of the feed, valid during `body`.
  public static func feedItem(
    _ payload: UnsafeRawBufferPointer, _ body: (UnsafePointer<bp_feed_item>) -> Void
  ) -> Bool {
    var reader = WireReader(payload)
    var item = bp_feed_item()
    item.chunk.size = UInt32(MemoryLayout<bp_feed_item>.size)
    item.chunk.count = 1
    item.flags = reader.u32()
    item.verb = reader.u32()
    item.content = reader.u32()
    item.epoch = reader.u64()
    item.position = reader.u64()
    item.ts_ms = reader.u64()
    item.version = reader.u64()
    item.uri = reader.view()
    item.data = reader.view()
    guard reader.isWhole else { return false }
    body(&item)
    return true
  }
}
