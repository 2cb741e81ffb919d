import BackplaneABI
import Synchronization

@testable import Kernel

/// Whoever subscribes.
final class FeedListener: Sendable {
  struct Item: Sendable, Equatable {
    var flags: UInt32 = 0
    var verb: UInt32 = 0
    var epoch: UInt64 = 0
    var position: UInt64
    var version: UInt64 = 0
    var uri = ""
    var text = ""

    var isPlace: Bool { flags & BP_FEED_PLACE != 0 }
    var isGap: Bool { flags & BP_FEED_GAP != 0 }
  }

  struct End: Sendable, Equatable {
    var code: bp_code
    var text: String
  }

  let inbox = Inbox<Item>()
  let end = Promise<End>()
  let itemsCount = Atomic<Int>(0)
  let endsCount = Atomic<Int>(0)
  /// Items that came while another one was being taken, or after the end.
  let faultsCount = Atomic<Int>(0)
  private let isInside = Atomic<Bool>(false)
  private let everything = Mutex<[Item]>([])
  /// Runs within every chunk.
  private let whileInChunk: @Sendable (Item) -> Void

  init(whileInChunk: @escaping @Sendable (Item) -> Void = { _ in }) { self.whileInChunk = whileInChunk }

  /// All that came, in order.
  var items: [Item] { everything.withLock { $0 } }
  var faults: Int { faultsCount.load(ordering: .acquiring) }

  var completion: bp_completion {
    bp_completion(
      // Kept for ever, so that a second end would be counted instead of crashing.
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        let listener = Unmanaged<FeedListener>.fromOpaque(context!).takeUnretainedValue()
        if listener.isInside.load(ordering: .acquiring) { listener.faultsCount.add(1, ordering: .relaxed) }
        listener.endsCount.add(1, ordering: .relaxed)
        listener.end.set(End(code: result!.pointee.code, text: result!.pointee.message.text))
      },
      chunk: { context, chunk in
        let item = UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_feed_item.self).pointee
        Unmanaged<FeedListener>.fromOpaque(context!).takeUnretainedValue().take(item)
      })
  }

  private func take(_ item: bp_feed_item) {
    if isInside.exchange(true, ordering: .acquiringAndReleasing) || endsCount.load(ordering: .acquiring) > 0 {
      faultsCount.add(1, ordering: .relaxed)
    }
    let taken = Item(
      flags: item.flags, verb: item.verb, epoch: item.epoch, position: item.position, version: item.version,
      uri: item.uri.text, text: item.data.text)
    everything.withLock { $0.append(taken) }
    itemsCount.add(1, ordering: .relaxed)
    whileInChunk(taken)
    isInside.store(false, ordering: .releasing)
    inbox.put(taken)
  }
}

extension WalkNode {
  /// Subscribes as a transport does.
  func subscribe(
    _ prefix: String, after place: (epoch: UInt64, position: UInt64)? = nil, credits: UInt32 = 1_000_000,
    flags: UInt32 = 0, into listener: FeedListener = FeedListener(), as subscriber: Instance? = nil
  ) -> (listener: FeedListener, token: bp_token) {
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    var prefix = prefix
    let token = prefix.withUTF8 { prefix in
      var request = bp_subscribe(
        size: UInt32(MemoryLayout<bp_subscribe>.size), flags: flags, prefix: bp_view(prefix),
        epoch: place?.epoch ?? 0, position: place?.position ?? 0, credits: credits, reserved: 0)
      return FeedTable.pointer.pointee.subscribe(
        (subscriber ?? caller).handle, &call, &request, listener.completion)
    }
    return (listener, token)
  }

  func grant(_ token: bp_token, _ credits: UInt32) -> bp_code {
    HostTable.pointer.pointee.grant(caller.handle, token, credits)
  }

  func cancel(_ token: bp_token) { HostTable.pointer.pointee.cancel(caller.handle, token) }
}

/// A node whose accepted messages somebody subscribes to.
final class FeedBench: @unchecked Sendable {
  // @unchecked: the node is set up by one thread; writes and subscriptions may come from any.
  let node = WalkNode()
  let backends: [ScriptedBackend]

  init(_ styles: [ScriptedBackend.Style] = [.direct], _ policy: WritePolicy = .all) {
    backends = styles.map { ScriptedBackend($0) }
    let node = node
    let instances = backends.enumerated().map { node.instance("backend-\($0)", .backend, $1) }
    node.publish(schema: node.instance("envelopes", .schema, ScriptedSchema()), backends: instances, policy)
  }

  var feed: Feed { node.context.feed }
  func write(_ uri: String, _ text: String) -> Message.Answer? { node.receive(uri, text).answer.soon() }
  func remove(_ uri: String) -> Message.Answer? { node.remove(uri).answer.soon() }
}
