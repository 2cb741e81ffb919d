import PluginAPI
import TransportSupport

/// One subscription of one connection.
final class Subscription: @unchecked Sendable {
  // @unchecked: everything but the constants is confined to the connection's event loop. The host's threads use `inbox`
  // and `wantsData` only.
  let connection: WebSocketConnection
  let inbox: FeedInbox
  /// The id of the request that made it, as the client wrote it: one JSON value.
  let id: [UInt8]
  let wantsData: Bool
  var token: bp_token = 0
  /// The client has been told where it begins.
  var isAnswered = false
  /// Nobody wants its events any more.
  var hasEnded = false
  /// Events that have been written and not been granted anew.
  var owedCredits: UInt32 = 0

  init(_ connection: WebSocketConnection, id: [UInt8], wantsData: Bool) {
    self.connection = connection
    inbox = connection.loop.inbox
    self.id = id
    self.wantsData = wantsData
  }

  /// Retains this object until the host completes, which it does exactly once.
  var completion: bp_completion {
    bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        let subscription = Unmanaged<Subscription>.fromOpaque(context!).takeRetainedValue()
        subscription.inbox.end(subscription, result!.pointee)
      },
      chunk: { context, chunk in
        let item = UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_feed_item.self)
        Unmanaged<Subscription>.fromOpaque(context!)._withUnsafeGuaranteedRef { $0.inbox.take($0, item) }
      })
  }
}

/// A place in the feed, as clients see it: they send it back as it is.
enum FeedPlaceText {
  /// Two numbers, in hexadecimal.
  static func append(epoch: UInt64, position: UInt64, to output: inout [UInt8]) {
    output.append(contentsOf: String(epoch, radix: 16).utf8)
    output.append(UInt8(ascii: "-"))
    output.append(contentsOf: String(position, radix: 16).utf8)
  }

  /// Nil: no place of a node's.
  static func parse(_ text: String) -> (epoch: UInt64, position: UInt64)? {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 2, text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") }),
      let epoch = UInt64(parts[0], radix: 16), let position = UInt64(parts[1], radix: 16), epoch != 0
    else { return nil }
    return (epoch, position)
  }
}
