import BackplaneABI
import ListQuery
import Synchronization
import URIText

/// backplane.node/1: the node as plugins use it. Each function finds its caller, takes a lease - the parent's when the
/// call is part of another - and hands over to the path of its verb.
enum NodeTable {
  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_node> = {
    let table = UnsafeMutablePointer<bp_node>.allocate(capacity: 1)
    table.initialize(
      to: bp_node(
        size: UInt32(MemoryLayout<bp_node>.size), reserved: 0,
        receive: { NodeTable.receive($0, $1, $2, $3) },
        read: { NodeTable.read($0, $1, $2, $3) },
        read_multi: { NodeTable.readMulti($0, $1, $2, $3, $4) },
        list: { NodeTable.list($0, $1, $2, $3) },
        remove: { NodeTable.remove($0, $1, $2, $3) },
        programs: { NodeTable.programs($0, $1, $2) },
        normalise: { NodeTable.normalise($0, $1, $2) }))
    return UnsafePointer(table)
  }()

  /// The caller when it may call now: not in a probe, not after stop.
  @inline(__always)
  private static func admit<T>(_ handle: bp_instance, _ completion: bp_completion, _ type: T.Type) -> Instance? {
    guard let caller = InstanceRegistry.shared.find(handle) else {
      Answers.complete(completion, BP_CLOSED, "the instance is gone", as: type)
      return nil
    }
    switch caller.state {
    // A transport accepts as soon as it listens, within its own start.
    case .configured, .serving, .quiesced: return caller
    default:
      Answers.complete(completion, BP_CLOSED, "the instance is not started", as: type)
      return nil
    }
  }

  @inline(__always)
  private static func lease(_ caller: Instance, parent: WriteRequest?) -> Lease? {
    if let parent { return caller.kernel.ring.extend(parent.lease) }
    return caller.kernel.ring.acquire()
  }

  /// A request that got no lease: it waits at the door while a slot is handed over, or the node is not up. Whatever the
  /// request owns is in `begin` and `giveBack`, one of which is called. Answers its token, or 0.
  @inline(never)
  private static func wait<T>(
    _ caller: Instance, _ header: bp_call, _ completion: bp_completion, _ type: T.Type,
    giveBack: @escaping () -> Void = {}, begin: @escaping ParkedRequest.Begin
  ) -> bp_token {
    let ring = caller.kernel.ring
    while !ring.isParked {
      // The door may have been opened since, or opened and shut.
      if let lease = ring.acquire() {
        defer { ring.release(lease) }
        return begin(header, lease, completion)
      }
      guard ring.currentNumber == 0 else { continue }
      giveBack()
      Answers.complete(completion, BP_UNAVAILABLE, "the node is not up yet", retryable: true, as: type)
      return 0
    }
    let request = ParkedRequest(caller, header, completion, begin: begin) { failure in
      giveBack()
      Answers.complete(completion, of: caller, failure, as: type)
    }
    return request.park()
  }

  private static func read(
    _ handle: bp_instance, _ call: UnsafePointer<bp_call>?, _ uri: bp_view, _ completion: bp_completion
  ) -> bp_token {
    guard let caller = admit(handle, completion, bp_read_result.self) else { return 0 }
    let kernel = caller.kernel
    guard Int(uri.size) <= kernel.uriSizeBytesMax.load(ordering: .relaxed) else {
      return refuse(
        caller, .read, completion, "the URI is longer than limits.uri_size_bytes_max", as: bp_read_result.self)
    }
    let (header, parent) = inherit(kernel, call)
    guard let lease = lease(caller, parent: parent) else {
      let bytes = Array(uri.bytes)
      return wait(caller, header, completion, bp_read_result.self) { call, lease, completion in
        bytes.withUnsafeBufferPointer { read(caller, call, parent: nil, bp_view($0), lease, completion) }
      }
    }
    defer { kernel.ring.release(lease) }
    return read(caller, header, parent: parent, uri, lease, completion)
  }

  @inline(__always)
  private static func read(
    _ caller: Instance, _ header: bp_call, parent: WriteRequest?, _ uri: bp_view, _ lease: Lease,
    _ completion: bp_completion
  ) -> bp_token {
    caller.outgoing.add(1, ordering: .relaxed)
    let end = NormalForm.with(uri, lease.generation) { normal -> ReadPath.End in
      guard let normal else {
        Answers.complete(completion, BP_INVALID_ARGUMENT, "Invalid URI format", as: bp_read_result.self)
        return ReadPath.End(token: 0, code: BP_INVALID_ARGUMENT, elapsedNs: 0)
      }
      if let parent, let record = parent.overlay(normal.bytes) {
        answer(record, completion)
        return ReadPath.End(token: 0, code: BP_OK, elapsedNs: 0)
      }
      return ReadPath.read(caller, header, normal, lease, completion) {
        caller.requestEnded(.read, $0, sinceNs: $1)
      }
    } unavailable: {
      Answers.complete(completion, of: caller, .noCanonicalForm, as: bp_read_result.self)
      return ReadPath.End(token: 0, code: CallFailure.noCanonicalForm.code, elapsedNs: 0)
    }
    if end.token == 0 { caller.requestEnded(.read, end.code, elapsedNs: end.elapsedNs) }
    return end.token
  }

  /// A request that is not begun, for its own sake.
  @inline(never)
  private static func refuse<T>(
    _ caller: Instance, _ operation: NodeOperation, _ completion: bp_completion, _ message: StaticString,
    as type: T.Type
  ) -> bp_token {
    if caller.slot.kind.isActive { caller.kernel.operations.record(operation, BP_INVALID_ARGUMENT, elapsedNs: 0) }
    Answers.complete(completion, BP_INVALID_ARGUMENT, message, as: type)
    return 0
  }

  /// The call's header and the message that it is part of. What the call does not say itself is the parent's.
  @inline(__always)
  private static func inherit(
    _ kernel: KernelContext, _ call: UnsafePointer<bp_call>?
  ) -> (bp_call, parent: WriteRequest?) {
    var header = call?.pointee ?? emptyCall
    let parent = header.parent == 0 ? nil : kernel.judgements.find(header.parent)
    if let parent {
      if header.deadline_ns == 0 { header.deadline_ns = parent.deadlineNs }
      // Whatever is part of another node's request is another node's.
      header.flags |= parent.flags & BP_CALL_FORWARDED
    }
    return (header, parent)
  }

  /// A record of the same message.
  static func answer(_ record: WriteRequest.OverlayRecord, _ completion: bp_completion) {
    switch record {
    case .absent: Answers.complete(completion, BP_NOT_FOUND, as: bp_read_result.self)
    case .present(let record):
      var result = bp_read_result()
      result.result.size = UInt32(MemoryLayout<bp_read_result>.size)
      result.record = record
      withUnsafePointer(to: &result) {
        completion.complete(completion.context, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
      }
    }
  }

  private static var emptyCall: bp_call {
    bp_call(
      size: UInt32(MemoryLayout<bp_call>.size), flags: 0, deadline_ns: 0, trace_id_high: 0, trace_id_low: 0, span_id: 0,
      idempotency_key_high: 0, idempotency_key_low: 0, parent: 0, generation: 0, peer: .empty)
  }

  private static func receive(
    _ handle: bp_instance, _ call: UnsafePointer<bp_call>?, _ request: UnsafePointer<bp_receive>?,
    _ completion: bp_completion
  ) -> bp_token {
    let request = request!.pointee
    return write(handle, call, BP_VERB_PUT, request.content, request.uri, request.data, completion)
  }

  private static func remove(
    _ handle: bp_instance, _ call: UnsafePointer<bp_call>?, _ uri: bp_view, _ completion: bp_completion
  ) -> bp_token {
    write(
      handle, call, BP_VERB_DELETE, BP_CONTENT_BYTES, uri,
      bp_buffer(data: nil, size: 0, owner: nil, release: nil), completion)
  }

  private static func write(
    _ handle: bp_instance, _ call: UnsafePointer<bp_call>?, _ verb: UInt32, _ content: UInt32, _ uri: bp_view,
    _ data: bp_buffer, _ completion: bp_completion
  ) -> bp_token {
    guard let caller = admit(handle, completion, bp_write_result.self) else {
      data.release?(data.owner)
      return 0
    }
    let kernel = caller.kernel
    let operation = verb == BP_VERB_DELETE ? NodeOperation.remove : .receive
    guard Int(uri.size) <= kernel.uriSizeBytesMax.load(ordering: .relaxed) else {
      data.release?(data.owner)
      return refuse(
        caller, operation, completion, "the URI is longer than limits.uri_size_bytes_max", as: bp_write_result.self)
    }
    guard Int(clamping: data.size) <= kernel.bodySizeBytesMax.load(ordering: .relaxed) else {
      data.release?(data.owner)
      return refuse(
        caller, operation, completion, "the data is longer than limits.body_size_bytes_max", as: bp_write_result.self)
    }
    let (header, parent) = inherit(kernel, call)
    guard let lease = lease(caller, parent: parent) else {
      let bytes = Array(uri.bytes)
      let body = UncheckedBuffer(buffer: data)
      return wait(
        caller, header, completion, bp_write_result.self, giveBack: { body.buffer.release?(body.buffer.owner) }
      ) { call, lease, completion in
        bytes.withUnsafeBufferPointer {
          write(caller, call, verb, content, bp_view($0), body.buffer, lease, completion)
        }
      }
    }
    defer { kernel.ring.release(lease) }
    return write(caller, header, verb, content, uri, data, lease, completion)
  }

  private struct UncheckedBuffer: @unchecked Sendable {
    // @unchecked: owned bytes, handed on once; their release may be called on any thread (core.h, bp_buffer).
    let buffer: bp_buffer
  }

  private static func write(
    _ caller: Instance, _ header: bp_call, _ verb: UInt32, _ content: UInt32, _ uri: bp_view, _ data: bp_buffer,
    _ lease: Lease, _ completion: bp_completion
  ) -> bp_token {
    caller.outgoing.add(1, ordering: .relaxed)
    let write = WriteRequest(
      caller, header, verb: verb, content: content, uri: uri, body: data, lease, completion
    ) {
      caller.requestEnded(verb == BP_VERB_DELETE ? .remove : .receive, $0, sinceNs: $1)
    }
    return write.start()
  }

  private static func readMulti(
    _ handle: bp_instance, _ call: UnsafePointer<bp_call>?, _ uris: UnsafePointer<bp_view>?, _ count: UInt32,
    _ completion: bp_completion
  ) -> bp_token {
    guard let caller = admit(handle, completion, bp_result.self) else { return 0 }
    let kernel = caller.kernel
    guard Int(count) <= kernel.readMultiMax.load(ordering: .relaxed) else {
      return refuse(
        caller, .readMulti, completion, "more URIs than limits.batch_messages_max", as: bp_result.self)
    }
    let (header, parent) = inherit(kernel, call)
    let list = (0..<Int(count)).map { Array(uris![$0].bytes) }
    guard let lease = lease(caller, parent: parent) else {
      return wait(caller, header, completion, bp_result.self) { call, lease, completion in
        readMulti(caller, call, parent: nil, list, lease, completion)
      }
    }
    defer { kernel.ring.release(lease) }
    return readMulti(caller, header, parent: parent, list, lease, completion)
  }

  private static func readMulti(
    _ caller: Instance, _ header: bp_call, parent: WriteRequest?, _ list: [[UInt8]], _ lease: Lease,
    _ completion: bp_completion
  ) -> bp_token {
    caller.outgoing.add(1, ordering: .relaxed)
    let request = ReadMultiRequest(caller, header, parent: parent, list, lease, completion) {
      caller.requestEnded(.readMulti, $0, sinceNs: $1)
    }
    return request.start()
  }

  private static func list(
    _ handle: bp_instance, _ call: UnsafePointer<bp_call>?, _ request: UnsafePointer<bp_list>?,
    _ completion: bp_completion
  ) -> bp_token {
    guard let caller = admit(handle, completion, bp_list_result.self) else { return 0 }
    let kernel = caller.kernel
    let request = request!.pointee
    let (header, parent) = inherit(kernel, call)
    let uri = Array(request.uri.bytes)
    let sort: ListQuery.SortKey =
      switch request.sort {
      case BP_SORT_NAME: .name
      case BP_SORT_TIMESTAMP: .timestamp
      default: .none
      }
    let query = ListQuery(
      page: Int(clamping: max(1, request.page)),
      limit: min(Int(clamping: max(1, request.limit)), kernel.listPageRecordsMax.load(ordering: .relaxed)),
      pattern: request.pattern.size == 0 ? nil : request.pattern.text, sortBy: sort,
      isDescending: request.flags & BP_LIST_DESCENDING != 0)
    guard let lease = lease(caller, parent: parent) else {
      return wait(caller, header, completion, bp_list_result.self) { call, lease, completion in
        list(caller, call, uri, query, lease, completion)
      }
    }
    defer { kernel.ring.release(lease) }
    return list(caller, header, uri, query, lease, completion)
  }

  private static func list(
    _ caller: Instance, _ header: bp_call, _ uri: [UInt8], _ query: ListQuery, _ lease: Lease,
    _ completion: bp_completion
  ) -> bp_token {
    var isUnavailable = false
    let prefix: [UInt8]? = uri.withUnsafeBufferPointer { uri in
      NormalForm.with(bp_view(uri), lease.generation) { normal in
        normal.map { Array($0.bytes) + [UInt8(ascii: "/")] }
      } unavailable: {
        isUnavailable = true
        return nil
      }
    }
    if isUnavailable {
      Answers.complete(completion, of: caller, .noCanonicalForm, as: bp_list_result.self)
      return 0
    }
    guard let prefix else {
      return refuse(caller, .list, completion, "Invalid URI format", as: bp_list_result.self)
    }
    caller.outgoing.add(1, ordering: .relaxed)
    let list = ListRequest(caller, header, prefix: prefix, query, lease, completion) {
      caller.requestEnded(.list, $0, sinceNs: $1)
    }
    return list.start()
  }

  private static func programs(
    _ handle: bp_instance, _ context: UnsafeMutableRawPointer?,
    _ add: (@convention(c) (UnsafeMutableRawPointer?, bp_view) -> Void)?
  ) {
    guard let caller = InstanceRegistry.shared.find(handle), let lease = caller.kernel.ring.acquireAdmitted() else {
      return
    }
    defer { caller.kernel.ring.release(lease) }
    for route in lease.generation.programs where route.flags & BP_PROGRAM_UNLISTED == 0 {
      route.key.withUnsafeBufferPointer { add!(context, bp_view($0)) }
    }
  }

  private static func normalise(_ handle: bp_instance, _ uri: bp_view, _ sink: bp_sink) -> bp_code {
    let scratchBytes = URIText.scratchBytes(forInputBytes: Int(uri.size))
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: scratchBytes) { scratch in
      switch URIText.normalise(uri.bytes, into: scratch) {
      case .unchanged:
        sink.write(sink.context, uri)
        return BP_OK
      case .written(let length, _):
        sink.write(sink.context, bp_view(UnsafeBufferPointer(rebasing: scratch[0..<length])))
        return BP_OK
      case .invalid, .tooLong: return BP_INVALID_ARGUMENT
      }
    }
  }
}
