import Glibc
import PluginAPI
import Synchronization
import URIText

/// A host made of C function pointers, with an in-memory node behind it. Instances are names, as in the real host.
final class FakeHost: Sendable {
  struct Stored: Sendable {
    var uri: String
    var content: UInt32
    var data: [UInt8]
  }
  struct State {
    var records: [Stored] = []
    /// When set, calls wait in `held` instead of completing before they return.
    var holds = false
    var failure: (code: bp_code, message: String)?
    var healthState = BP_HEALTH_HEALTHY
    var isReady = true
    var programs = ["mutable://open", "hash://\"sha256\""]
    var calls: [(trace: UInt64, deadline: UInt64, peer: String)] = []
    var listener: Int32 = -1
    var nextToken: bp_token = 1
  }

  let state = Mutex(State())
  let instance: bp_instance
  /// Calls that wait, in order; running one completes it, on the thread that runs it.
  let held: AsyncStream<@Sendable () -> Void>
  let cancelled: AsyncStream<bp_token>
  private let hold: AsyncStream<@Sendable () -> Void>.Continuation
  private let cancel: AsyncStream<bp_token>.Continuation

  private static let instances = Mutex<[bp_instance: FakeHost]>([:])
  private static let nextInstance = Atomic<UInt64>(1)

  init() {
    instance = Self.nextInstance.add(1, ordering: .relaxed).newValue
    (held, hold) = AsyncStream.makeStream()
    (cancelled, cancel) = AsyncStream.makeStream()
    let me = self
    Self.instances.withLock { $0[instance] = me }
  }

  static func find(_ instance: bp_instance) -> FakeHost { instances.withLock { $0[instance]! } }

  var context: Context {
    Context(
      host: HostHandle(table: FakeTables.shared.host, instance: instance), slot: "http", purpose: .serve,
      stateDirectory: "")
  }

  func put(_ uri: String, _ content: UInt32, _ data: [UInt8]) {
    state.withLock { state in
      if let index = state.records.firstIndex(where: { $0.uri == uri }) {
        state.records[index] = Stored(uri: uri, content: content, data: data)
      } else {
        state.records.append(Stored(uri: uri, content: content, data: data))
      }
    }
  }

  func put(_ uri: String, json: String) { put(uri, BP_CONTENT_JSON, Array(json.utf8)) }

  /// Completes now, or later when the test says so. Returns the token.
  fileprivate func complete(_ call: UnsafePointer<bp_call>, _ body: @escaping @Sendable () -> Void) -> bp_token {
    let copy = call.pointee
    let (holds, token) = state.withLock { state in
      state.calls.append((copy.trace_id_low, copy.deadline_ns, copy.peer.text))
      state.nextToken += 1
      return (state.holds, state.nextToken)
    }
    if holds {
      hold.yield(body)
      return token
    }
    body()
    return 0
  }

  fileprivate func cancelled(_ token: bp_token) { cancel.yield(token) }
}

/// A completion that may be kept and called on any thread, as the contract says.
private struct Completion: @unchecked Sendable {
  let raw: bp_completion

  func read(_ code: bp_code, _ message: String = "", _ record: FakeHost.Stored? = nil) {
    message.withView { message in
      (record?.data ?? []).withView { data in
        var result = bp_read_result(
          result: Self.head(code, message, bp_read_result.self),
          record: bp_record(
            size: .size(of: bp_record.self), content: record?.content ?? 0, ts_ms: 0, version: 1, data: data))
        Self.deliver(&result) { raw.complete(raw.context, $0) }
      }
    }
  }

  func write(_ code: bp_code, _ message: String = "") {
    message.withView { message in
      var result = bp_write_result(
        result: Self.head(code, message, bp_write_result.self), durability: BP_DURABILITY_DISK, absent_count: 0,
        failed_op: 0, reserved: 0, ts_ms: 0)
      Self.deliver(&result) { raw.complete(raw.context, $0) }
    }
  }

  static func head<T>(_ code: bp_code, _ message: bp_view, _ type: T.Type) -> bp_result {
    bp_result(
      size: .size(of: T.self), code: code, flags: 0, retry_after_ms: code == BP_UNAVAILABLE ? 1_500 : 0,
      message: message, detail: .empty)
  }

  static func deliver<T>(_ result: inout T, _ body: (UnsafePointer<bp_result>) -> Void) {
    withUnsafePointer(to: &result) { body(UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self)) }
  }
}

/// The tables, made once and never freed, as the real host's are static.
struct FakeTables: @unchecked Sendable {
  // @unchecked: written once before it is shared.
  static let shared = FakeTables()
  let host = UnsafeMutablePointer<bp_host>.allocate(capacity: 1)
  let node = UnsafeMutablePointer<bp_node>.allocate(capacity: 1)
  let observe = UnsafeMutablePointer<bp_observe>.allocate(capacity: 1)
  let listener = UnsafeMutablePointer<bp_listener>.allocate(capacity: 1)

  private init() {
    host.initialize(
      to: bp_host(
        size: .size(of: bp_host.self), abi_major: BP_ABI_MAJOR, abi_minor: BP_ABI_MINOR, reserved: 0,
        complete: { _, _, _ in }, emit: { _, _, _ in BP_OK },
        cancel: { FakeHost.find($0).cancelled($1) }, grant: { _, _, _ in BP_OK }, log: { _, _, _, _, _ in },
        metric: { _, _, handle in
          handle!.pointee = 1
          return BP_OK
        },
        record: { _, _, _ in }, health: { _, _, _ in },
        extension: { _, id in
          let tables = FakeTables.shared
          if id.equals("backplane.node/1") { return UnsafeRawPointer(tables.node) }
          if id.equals("backplane.observe/1") { return UnsafeRawPointer(tables.observe) }
          if id.equals("backplane.listener/1") { return UnsafeRawPointer(tables.listener) }
          return nil
        }))
    node.initialize(
      to: bp_node(
        size: .size(of: bp_node.self), reserved: 0,
        receive: { fakeReceive($0, $1!, $2!, Completion(raw: $3)) },
        read: { fakeRead($0, $1!, $2, Completion(raw: $3)) },
        read_multi: { fakeReadMulti($0, $1!, $2!, $3, Completion(raw: $4)) },
        list: { fakeList($0, $1!, $2!, Completion(raw: $3)) },
        remove: { fakeRemove($0, $1!, $2, Completion(raw: $3)) },
        programs: { instance, context, add in
          for key in FakeHost.find(instance).state.withLock({ $0.programs }) { key.withView { add!(context, $0) } }
        },
        normalise: { _, _, _ in BP_UNIMPLEMENTED }))
    observe.initialize(
      to: bp_observe(
        size: .size(of: bp_observe.self), reserved: 0,
        health: { instance, state, context, add in
          let (health, isReady) = FakeHost.find(instance).state.withLock { ($0.healthState, $0.isReady) }
          state!.pointee = health
          for (slot, scheme) in [("primary", "memory"), ("second", "sqlite")] {
            slot.withView { slot in
              scheme.withView { scheme in
                "backend".withView { kind in
                  (health == BP_HEALTH_HEALTHY ? "" : "the disk is full").withView { message in
                    var report = bp_slot_health()
                    report.size = .size(of: bp_slot_health.self)
                    report.state = health
                    (report.slot, report.kind, report.scheme, report.message) = (slot, kind, scheme, message)
                    add!(context, &report)
                  }
                }
              }
            }
          }
          return isReady ? BP_READY : 0
        },
        metrics: { _, sink in "# EOF\n".withView { sink.write(sink.context, $0) } },
        operations: { _, _, _ in }))
    listener.initialize(
      to: bp_listener(
        size: .size(of: bp_listener.self), reserved: 0,
        borrow: { instance, _, socket in
          let descriptor = FakeHost.find(instance).state.withLock { $0.listener }
          socket!.pointee.descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
          return BP_OK
        }))
  }
}

private func fakeRead(
  _ instance: bp_instance, _ call: UnsafePointer<bp_call>, _ uri: bp_view, _ completion: Completion
) -> bp_token {
  let host = FakeHost.find(instance)
  let key = uri.text
  return host.complete(call) {
    let (failure, record) = host.state.withLock { state in
      (state.failure, state.records.first { $0.uri == key })
    }
    if let failure { return completion.read(failure.code, failure.message) }
    completion.read(record == nil ? BP_NOT_FOUND : BP_OK, "", record)
  }
}

private func fakeReceive(
  _ instance: bp_instance, _ call: UnsafePointer<bp_call>, _ request: UnsafePointer<bp_receive>,
  _ completion: Completion
) -> bp_token {
  let host = FakeHost.find(instance)
  let uri = request.pointee.uri.text
  let content = request.pointee.content
  // Ownership passes whatever the answer: the bytes are used and released when the call ends.
  nonisolated(unsafe) let data = request.pointee.data
  return host.complete(call) {
    defer { data.release?(data.owner) }
    if let failure = host.state.withLock({ $0.failure }) { return completion.write(failure.code, failure.message) }
    guard let normal = URIText.normalise(uri) else { return completion.write(BP_REJECTED, "Invalid URI format") }
    host.put(normal.text, content, bp_view(data: data.data, size: data.size).array)
    completion.write(BP_OK)
  }
}

private func fakeRemove(
  _ instance: bp_instance, _ call: UnsafePointer<bp_call>, _ uri: bp_view, _ completion: Completion
) -> bp_token {
  let host = FakeHost.find(instance)
  let key = uri.text
  return host.complete(call) {
    let wasThere = host.state.withLock { state in
      let index = state.records.firstIndex { $0.uri == key }
      if let index { state.records.remove(at: index) }
      return index != nil
    }
    completion.write(wasThere ? BP_OK : BP_NOT_FOUND)
  }
}

private func fakeReadMulti(
  _ instance: bp_instance, _ call: UnsafePointer<bp_call>, _ uris: UnsafePointer<bp_view>, _ count: UInt32,
  _ completion: Completion
) -> bp_token {
  let host = FakeHost.find(instance)
  let keys = (0..<Int(count)).map { uris[$0].text }
  return host.complete(call) {
    // Backwards: the order of chunks is the node's business.
    for (index, key) in keys.enumerated().reversed() {
      let record = host.state.withLock { $0.records.first { $0.uri == key } }
      (record?.data ?? []).withView { data in
        var read = bp_read_result(
          result: Completion.head(record == nil ? BP_NOT_FOUND : BP_OK, .empty, bp_read_result.self),
          record: bp_record(
            size: .size(of: bp_record.self), content: record?.content ?? 0, ts_ms: 7, version: 0, data: data))
        withUnsafePointer(to: &read) { read in
          var item = bp_read_item(
            chunk: bp_chunk(size: .size(of: bp_read_item.self), count: 1, bytes: .empty), index: UInt32(index),
            reserved: 0, read: read)
          withUnsafePointer(to: &item) {
            completion.raw.chunk(
              completion.raw.context, UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self))
          }
        }
      }
    }
    var result = Completion.head(BP_OK, .empty, bp_result.self)
    completion.raw.complete(completion.raw.context, &result)
  }
}

private func fakeList(
  _ instance: bp_instance, _ call: UnsafePointer<bp_call>, _ request: UnsafePointer<bp_list>,
  _ completion: Completion
) -> bp_token {
  let host = FakeHost.find(instance)
  let base = request.pointee.uri.text + "/"
  let (page, limit) = (request.pointee.page, request.pointee.limit)
  return host.complete(call) {
    let all = host.state.withLock { $0.records.map(\.uri).filter { $0.hasPrefix(base) } }
    let skip = min(UInt64(all.count), (page - 1).multipliedReportingOverflow(by: limit).partialValue)
    let shown = all.dropFirst(Int(skip)).prefix(Int(clamping: limit))
    let bytes = shown.flatMap { Array($0.utf8) }
    bytes.withUnsafeBufferPointer { bytes in
      var start = 0
      let views = shown.map { uri in
        defer { start += uri.utf8.count }
        return bp_view(UnsafeBufferPointer(rebasing: bytes[start..<(start + uri.utf8.count)]))
      }
      views.withUnsafeBufferPointer { views in
        var result = bp_list_result(
          result: Completion.head(BP_OK, .empty, bp_list_result.self), uris: views.baseAddress,
          uris_count: UInt64(views.count), total: UInt64(all.count), page: page, limit: limit)
        Completion.deliver(&result) { completion.raw.complete(completion.raw.context, $0) }
      }
    }
  }
}
