import JSONText
import NIOCore
import PluginAPI
import Synchronization
import TransportSupport

/// One item of the feed, rendered once for all subscriptions of a loop that get it.
final class EventText: Sendable {
  let epoch: UInt64
  let position: UInt64
  let flags: UInt32
  let wantsData: Bool
  /// From `,"place":` to the closing brace.
  let bytes: [UInt8]

  init(_ item: bp_feed_item, wantsData: Bool) {
    epoch = item.epoch
    position = item.position
    flags = item.flags
    self.wantsData = wantsData
    bytes = Self.render(item, wantsData: wantsData)
  }

  var isPlace: Bool { flags & BP_FEED_PLACE != 0 }
  var isGap: Bool { flags & BP_FEED_GAP != 0 }

  func isOf(_ item: bp_feed_item, wantsData: Bool) -> Bool {
    position == item.position && epoch == item.epoch && flags == item.flags && self.wantsData == wantsData
  }

  private static func render(_ item: bp_feed_item, wantsData: Bool) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(96 + Int(item.uri.size) + Int(item.data.size))
    bytes.append(contentsOf: ",\"place\":\"".utf8)
    FeedPlaceText.append(epoch: item.epoch, position: item.position, to: &bytes)
    bytes.append(UInt8(ascii: "\""))
    if item.flags & BP_FEED_PLACE == 0 {
      bytes.append(contentsOf: ",\"uri\":".utf8)
      JSONWriter.appendString(utf8: UnsafeRawBufferPointer(item.uri.bytes), to: &bytes)
      bytes.append(contentsOf: ",\"ts\":\(item.ts_ms)".utf8)
      if item.verb == BP_VERB_DELETE {
        bytes.append(contentsOf: ",\"deleted\":true".utf8)
      } else if item.flags & BP_FEED_NO_DATA != 0 {
        if wantsData { bytes.append(contentsOf: ",\"omitted\":true".utf8) }
      } else {
        bytes.append(contentsOf: ",\"data\":".utf8)
        if item.content == BP_CONTENT_JSON {
          bytes.append(contentsOf: item.data.bytes)
        } else {
          BinaryMarker.append(UnsafeRawBufferPointer(item.data.bytes), hasEncoding: false, to: &bytes)
        }
      }
    }
    if item.flags & BP_FEED_GAP != 0 { bytes.append(contentsOf: ",\"gap\":true".utf8) }
    bytes.append(UInt8(ascii: "}"))
    return bytes
  }
}

/// Items on their way from the host's threads to one loop's subscriptions. What it holds is bounded by the credits of
/// the subscriptions.
final class FeedInbox: @unchecked Sendable {
  // @unchecked: `loop` is confined to the event loop; everything else is constant or under the lock.
  enum Arrival: Sendable {
    case event(Subscription, EventText)
    case end(Subscription, bp_code, String)

    fileprivate var connection: WebSocketConnection {
      switch self {
      case .event(let subscription, _), .end(let subscription, _, _): subscription.connection
      }
    }
  }

  private struct State {
    var arrivals: [Arrival] = []
    var isScheduled = false
    /// The last few that were rendered: an item comes to each subscription by itself.
    var recent: [EventText] = []
  }

  private let eventLoop: any EventLoop
  private let shared: SharedState
  private let state = Mutex(State())
  /// On the loop; nil after the end.
  unowned(unsafe) var loop: WebSocketLoop?

  private static let recentMax = 8
  /// To how many connections is sent before others of the loop have their turn.
  private static let turnMax = 256

  init(_ eventLoop: any EventLoop, _ shared: SharedState) {
    self.eventLoop = eventLoop
    self.shared = shared
  }

  /// Any thread.
  func take(_ subscription: Subscription, _ item: UnsafePointer<bp_feed_item>) {
    let wantsData = subscription.wantsData
    let found = state.withLock { state -> (text: EventText?, schedules: Bool) in
      guard let text = state.recent.last(where: { $0.isOf(item.pointee, wantsData: wantsData) }) else {
        return (nil, false)
      }
      return (text, Self.append(.event(subscription, text), to: &state))
    }
    if found.text != nil {
      if found.schedules { schedule() }
      return
    }
    let text = EventText(item.pointee, wantsData: wantsData)
    let schedules = state.withLock { state in
      if state.recent.count == Self.recentMax { state.recent.removeFirst() }
      state.recent.append(text)
      return Self.append(.event(subscription, text), to: &state)
    }
    if schedules { schedule() }
  }

  /// The host has ended a subscription. Any thread.
  func end(_ subscription: Subscription, _ result: bp_result) {
    let (code, message) = (result.code, result.message.text)
    if state.withLock({ Self.append(.end(subscription, code, message), to: &$0) }) { schedule() }
  }

  private static func append(_ arrival: Arrival, to state: inout State) -> Bool {
    state.arrivals.append(arrival)
    defer { state.isScheduled = true }
    return !state.isScheduled
  }

  private func schedule() {
    guard !shared.isStopped.load(ordering: .acquiring) else { return }
    eventLoop.execute { self.drain(self.gather(self.nextTurn())[...]) }
  }

  private func nextTurn() -> [Arrival] {
    state.withLock { state in
      defer { state.arrivals = [] }
      if state.arrivals.isEmpty {
        state.isScheduled = false
        state.recent = []
      }
      return state.arrivals
    }
  }

  /// By connection, in their order: what has come for one while others were sent to goes out in one piece. On the loop.
  private func gather(_ arrivals: [Arrival]) -> [WebSocketConnection] {
    var connections: [WebSocketConnection] = []
    for arrival in arrivals {
      let connection = arrival.connection
      if connection.arrivals.isEmpty { connections.append(connection) }
      connection.arrivals.append(arrival)
    }
    return connections
  }

  /// Sends to some, and to the rest when others have had their turn. On the loop.
  private func drain(_ connections: ArraySlice<WebSocketConnection>) {
    guard let loop else {
      // They would keep each other.
      for connection in connections { connection.arrivals = [] }
      return
    }
    for connection in connections.prefix(Self.turnMax) {
      let arrivals = connection.arrivals
      connection.arrivals = []
      for arrival in arrivals {
        switch arrival {
        case .event(let subscription, let text): connection.send(text, to: subscription)
        case .end(let subscription, let code, let message): connection.ended(subscription, code, message)
        }
      }
    }
    loop.outputOwner?.flush()
    let rest = connections.dropFirst(Self.turnMax)
    if !rest.isEmpty {
      eventLoop.execute { self.drain(rest) }
      return
    }
    let next = nextTurn()
    if !next.isEmpty { eventLoop.execute { self.drain(self.gather(next)[...]) } }
  }
}
