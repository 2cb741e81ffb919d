import BackplaneABI
import Glibc
import IsolationWire
import Synchronization

/// What comes from a plugin that lives elsewhere: completions, reports, calls to the node. Nothing of it is believed: a
/// frame that breaks the rules ends the link.
final class ProxyReader: FrameHandler, @unchecked Sendable {
  // @unchecked: fixed; frames are handled on the reader's thread, questions on the attendant's.
  private unowned let instance: Instance
  private let proxy: ProxyPlugin
  private let link: Link
  private let handle: bp_instance

  init(_ proxy: ProxyPlugin, _ link: Link) {
    self.proxy = proxy
    self.link = link
    instance = proxy.instance
    handle = proxy.instance.handle
  }

  func handle(_ frame: inout Frame) -> Bool {
    switch frame.kind {
    case .completed: return completed(frame)
    case .nodeRead:
      guard let (call, uri) = ReceivedNodeCall.uri(frame.payload) else { return false }
      return forward(frame.id, .read) { completion in
        var call = call
        return NodeTable.pointer.pointee.read(handle, &call, uri, completion)
      }
    case .nodeReceive: return receive(&frame)
    case .nodeRemove:
      guard let (call, uri) = ReceivedNodeCall.uri(frame.payload) else { return false }
      return forward(frame.id, .write) { completion in
        var call = call
        return NodeTable.pointer.pointee.remove(handle, &call, uri, completion)
      }
    case .nodeList:
      guard let (call, request) = ReceivedNodeCall.list(frame.payload) else { return false }
      return forward(frame.id, .list) { completion in
        var call = call
        var request = request
        return NodeTable.pointer.pointee.list(handle, &call, &request, completion)
      }
    case .nodeReadMulti:
      guard let (call, uris) = ReceivedNodeCall.readMulti(frame.payload) else { return false }
      return forward(frame.id, .plain) { completion in
        var call = call
        return uris.withUnsafeBufferPointer {
          NodeTable.pointer.pointee.read_multi(handle, &call, $0.baseAddress, UInt32($0.count), completion)
        }
      }
    case .nodeSubscribe: return subscribe(frame)
    case .nodeTimer:
      guard let dueNs = ReceivedNodeCall.number(frame.payload) else { return false }
      return forward(frame.id, .plain) { TimerTable.pointer.pointee.after(handle, dueNs, $0) }
    case .nodePropose:
      guard let proposal = ReceivedNodeCall.proposal(frame.payload) else { return false }
      return forward(frame.id, .proposal) { completion in
        var proposal = proposal
        return ProposalTable.pointer.pointee.propose(handle, nil, &proposal, completion)
      }
    case .grantNode:
      guard let credits = ReceivedNodeCall.number(frame.payload) else { return false }
      let token = link.forwardedToken(frame.id)
      if token != 0 { _ = HostTable.pointer.pointee.grant(handle, token, UInt32(truncatingIfNeeded: credits)) }
      return true
    case .cancelNode:
      let token = link.forwardedToken(frame.id)
      if token != 0 { HostTable.pointer.pointee.cancel(handle, token) }
      return true
    case .chunk: return chunk(frame)
    case .record:
      guard let bits = ReceivedNodeCall.number(frame.payload) else { return false }
      HostTable.pointer.pointee.record(
        handle, UInt32(truncatingIfNeeded: frame.id), Double(bitPattern: bits))
      return true
    case .log:
      return ReceivedReport.log(frame.payload) { HostTable.pointer.pointee.log(handle, $0, $1, $2, $3) }
    case .health:
      guard let message = ReceivedReport.bytes(frame.payload) else { return false }
      HostTable.pointer.pointee.health(handle, UInt32(truncatingIfNeeded: frame.id), message)
      return true
    case .connections:
      guard let count = ReceivedNodeCall.number(frame.payload) else { return false }
      link.connectionCount.store(count, ordering: .relaxed)
      return true
    case .answer:
      guard let answer = LifeCycleAnswer(frame.payload) else { return false }
      return link.answered(frame.id, answer)
    default: return false
    }
  }

  private func completed(_ frame: Frame) -> Bool {
    guard let operation = CallSlab.shared.operation(handle, frame.id) else {
      // Counted, and ignored: completing twice, or too late, is no crime.
      CallSlab.shared.ignoredCompletions.add(1, ordering: .relaxed)
      return true
    }
    let message = operation == .judge ? proxy.judgements.find(frame.id) : nil
    return ReceivedResult.with(frame.payload, expected: operation.resultShape, message: message) {
      _ = CallSlab.shared.complete(handle, frame.id, $0)
    }
  }

  private func chunk(_ frame: Frame) -> Bool {
    ReceivedNodeCall.chunk(frame.payload) { chunk in
      // The other side counts its credits, so this is a call that has ended.
      if CallSlab.shared.emit(handle, frame.id, chunk) != BP_OK { link.connection.sendCancel(frame.id) }
    }
  }

  // MARK: Calls to the node

  /// What the node answers to. Released by the completion.
  private final class ForwardedCall: Sendable {
    let link: Link
    let id: UInt64
    let shape: ResultShape
    let owner: bp_instance
    let feed: Feed
    init(_ link: Link, _ id: UInt64, _ shape: ResultShape, _ instance: Instance) {
      self.link = link
      self.id = id
      self.shape = shape
      owner = instance.handle
      feed = instance.kernel.feed
    }
  }

  @inline(__always)
  private func forward(
    _ id: UInt64, _ shape: ResultShape, chunk: Chunk? = nil, _ submit: (bp_completion) -> bp_token
  ) -> Bool {
    guard link.beginForwarded(id) else { return false }
    let call = ForwardedCall(link, id, shape, instance)
    let completion = bp_completion(
      context: Unmanaged.passRetained(call).toOpaque(),
      complete: { context, result in
        let call = Unmanaged<ForwardedCall>.fromOpaque(context!).takeRetainedValue()
        // Before the answer goes out: the other side may use the name again at once.
        call.link.endForwarded(call.id)
        _ = call.link.connection.sendNodeCompleted(call.id, call.shape, result!)
      },
      chunk: chunk ?? { context, chunk in
        let call = Unmanaged<ForwardedCall>.fromOpaque(context!).takeUnretainedValue()
        call.link.connection.sendNodeItem(
          call.id, UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_read_item.self))
      })
    // Answers cannot be refused, so what would bring more of them is.
    guard !link.connection.isFull else {
      Answers.complete(
        completion, BP_RESOURCE_EXHAUSTED,
        "too many bytes wait for this plugin's process (isolation.waiting_size_bytes_max)", retryable: true,
        as: bp_list_result.self)
      return true
    }
    link.forwarded(id, as: submit(completion))
    return true
  }

  private typealias Chunk = @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<bp_chunk>?) -> Void

  private func subscribe(_ frame: Frame) -> Bool {
    guard let (call, request) = ReceivedNodeCall.subscribe(frame.payload) else { return false }
    let chunk: Chunk = { context, chunk in
      let call = Unmanaged<ForwardedCall>.fromOpaque(context!).takeUnretainedValue()
      call.link.connection.sendFeedItem(
        call.id, UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_feed_item.self))
      // What was granted comes, whatever it takes; a process that does not read it gets no more. It knows its place.
      guard call.link.connection.isFull else { return }
      call.feed.end(
        call.owner, call.link.forwardedToken(call.id), BP_RESOURCE_EXHAUSTED,
        "too many bytes wait for this plugin's process (isolation.waiting_size_bytes_max): subscribe again")
    }
    return forward(frame.id, .plain, chunk: chunk) { completion in
      var call = call
      var request = request
      return FeedTable.pointer.pointee.subscribe(handle, &call, &request, completion)
    }
  }

  private func receive(_ frame: inout Frame) -> Bool {
    guard let (call, content, uri, data) = ReceivedNodeCall.receive(frame.payload) else { return false }
    var buffer = bp_buffer()
    if let owned = frame.owned {
      // It came by shared memory and was copied: that copy is the node's now.
      frame.isTaken = true
      buffer = bp_buffer(data: data.data, size: data.size, owner: owned, release: { free($0) })
    } else if data.size > 0 {
      guard let copy = malloc(Int(data.size)) else { return false }
      copy.copyMemory(from: data.data, byteCount: Int(data.size))
      buffer = bp_buffer(
        data: copy.assumingMemoryBound(to: UInt8.self), size: data.size, owner: copy, release: { free($0) })
    }
    var isSubmitted = false
    let isSound = forward(frame.id, .write) { completion in
      isSubmitted = true
      var call = call
      var request = bp_receive(
        size: UInt32(MemoryLayout<bp_receive>.size), content: content, uri: uri, data: buffer)
      return NodeTable.pointer.pointee.receive(handle, &call, &request, completion)
    }
    if !isSubmitted { buffer.release?(buffer.owner) }
    return isSound
  }

  // MARK: Questions

  /// Answers one question of the plugin's; false when nobody asks like this.
  func answer(_ socket: AskingSocket, _ question: AskingSocket.Question) -> Bool {
    let host = HostTable.pointer.pointee
    switch question.kind {
    case .askMetric:
      let answer = question.metric { metric in
        var handle: UInt32 = 0
        return (host.metric(self.handle, metric, &handle), handle)
      }
      guard let answer else { return false }
      return socket.replyCode(question, answer.code, number: UInt64(answer.handle))
    case .askGrant:
      guard let (token, credits) = question.numbers else { return false }
      return socket.replyCode(question, host.grant(handle, token, UInt32(truncatingIfNeeded: credits)))
    case .askBorrow:
      var borrowed = bp_listener_socket()
      borrowed.size = UInt32(MemoryLayout<bp_listener_socket>.size)
      borrowed.descriptor = -1
      guard let code = question.bytes({ ListenerTable.pointer.pointee.borrow(handle, $0, &borrowed) }) else {
        return false
      }
      defer { if borrowed.descriptor >= 0 { close(borrowed.descriptor) } }
      return socket.replyCode(
        question, code, number: UInt64(borrowed.port), descriptor: code == BP_OK ? borrowed.descriptor : -1)
    case .askPrograms:
      let keys = Collected<[UInt8]>()
      NodeTable.pointer.pointee.programs(handle, keys.opaque) { context, key in
        Collected<[UInt8]>.at(context).list.append(Array(key.bytes))
      }
      return socket.replyPrograms(question, keys.list)
    case .askHealth:
      let slots = Collected<(state: UInt32, texts: [[UInt8]])>()
      var worst: UInt32 = 0
      let flags = ObserveTable.pointer.pointee.health(handle, &worst, slots.opaque) { context, slot in
        let slot = slot!.pointee
        let texts = [slot.slot, slot.kind, slot.plugin, slot.version, slot.scheme, slot.message]
        Collected<(state: UInt32, texts: [[UInt8]])>.at(context).list.append(
          (slot.state, texts.map { Array($0.bytes) }))
      }
      return socket.replyHealth(question, flags: flags, state: worst, slots.list)
    case .askOperations:
      let operations = Collected<OperationCounts>()
      ObserveTable.pointer.pointee.operations(handle, operations.opaque) { context, counts in
        Collected<OperationCounts>.at(context).list.append(OperationCounts(counts!))
      }
      return socket.replyOperations(question, operations.list)
    case .askMetrics:
      let text = Collected<UInt8>()
      ObserveTable.pointer.pointee.metrics(
        handle,
        bp_sink(context: text.opaque, write: { Collected<UInt8>.at($0).list.append(contentsOf: $1.bytes) }))
      return socket.replyCode(question, BP_OK, bytes: text.list)
    default: return false
    }
  }

  private final class Collected<Element> {
    var list: [Element] = []
    var opaque: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }
    static func at(_ context: UnsafeMutableRawPointer?) -> Collected {
      Unmanaged<Collected>.fromOpaque(context!).takeUnretainedValue()
    }
  }
}

extension Operation {
  /// What a call is completed with.
  var resultShape: ResultShape {
    switch self {
    case .apply: .write
    case .read: .read
    case .scan: .scan
    case .query: .query
    case .judge: .verdict
    case .exportState, .importState, .nodeReady, .nodeEnding: .plain
    }
  }
}
