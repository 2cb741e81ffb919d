import BackplaneABI
import ListQuery
import Synchronization

/// Listing: one backend after the other, until one has something below the URI. One that answers queries is asked for
/// the page itself when nothing has to be matched or sorted (backend_query.h); the others are scanned to their end,
/// because the total is of all pages.
final class ListRequest: PendingRequest, @unchecked Sendable {
  // @unchecked: one step runs at a time, each after the completion of the one before; the rest is atomic.

  /// Records asked of a backend at once.
  private static let pageRecords: UInt32 = 1024

  let caller: Instance
  private let call: OwnedCall
  private var lease: Lease
  private let completion: bp_completion
  private let answered: RequestEnd
  private let prefix: [UInt8]
  private let query: ListQuery
  /// The same, when a backend may answer it.
  private let pageQuery: ListPageQuery?
  private var backends: [Instance]
  private var upToDate: Int
  private var index = 0
  private var someAnswered = false
  private var failure: CallFailure?
  private var collector: ListCollector?
  /// What the backend at `index` is asked for, instead of a scan.
  private var asked: ListPageQuery?
  /// It has been, and it would rather be scanned.
  private var refusesQuery = false
  private var cursor: [UInt8] = []
  private var pages = 0
  private var isOnWorker = false
  private var scanOutcome: ScanOutcome?
  private let turn = Atomic<Int>(0)
  private let isAnswered = Atomic<Bool>(false)
  private let requestToken = Atomic<UInt64>(0)
  /// The lease's number, for whoever looks from outside.
  private let generation: Atomic<UInt64>
  /// The call that is open, for `giveUp`, which comes on a thread of its own.
  private let open = Mutex<(backend: Instance, operation: Operation, token: bp_token)?>(nil)

  private enum ScanOutcome {
    case more
    case end
    /// A query has been answered: there is nothing, or the page has been handed over.
    case nothing
    case answered
    case refused
    case failed(CallFailure)
  }

  init(
    _ caller: Instance, _ call: bp_call, prefix: [UInt8], _ query: ListQuery, _ lease: Lease,
    _ completion: bp_completion, answered: @escaping RequestEnd
  ) {
    self.caller = caller
    self.lease = caller.kernel.ring.extend(lease)
    generation = Atomic(lease.number)
    self.call = OwnedCall(
      call, generation: lease.number, timeoutNsMax: caller.kernel.requestTimeoutNs.load(ordering: .relaxed))
    self.prefix = prefix
    self.query = query
    pageQuery = ListPageQuery(query)
    self.completion = completion
    self.answered = answered
    (backends, upToDate) = lease.generation.readable()
  }

  deinit { caller.kernel.ring.release(lease) }

  var deadlineNs: UInt64 { call.deadlineNs }

  var holding: RequestHolding? {
    let open = open.withLock { $0 }
    return call.holding(
      .list, generation.load(ordering: .relaxed),
      waitsFor: open.map { [($0.backend, MarkedCall($0.operation))] } ?? [])
  }

  func start() -> bp_token {
    run()
    return isAnswered.load(ordering: .acquiring) ? 0 : requestToken.load(ordering: .acquiring)
  }

  /// From here on the request can outlive the call that began it: it can be cancelled, and has a deadline.
  private func register() {
    guard requestToken.load(ordering: .relaxed) == 0 else { return }
    requestToken.store(caller.kernel.requests.add(self), ordering: .releasing)
  }

  /// Goes on until a scan is under way on another thread or the list is answered.
  private func run() {
    while !isAnswered.load(ordering: .acquiring) {
      // The first page is taken on the caller's thread; a long list does not keep an event loop from its other clients.
      if pages == 1, !isOnWorker {
        isOnWorker = true
        register()
        if caller.kernel.workers.submit({ self.run() }) { return }
        return fail(CallFailure(code: BP_RESOURCE_EXHAUSTED, "too many long lists are under way", isRetryable: true))
      }
      if collector == nil {
        guard index < backends.count, !(someAnswered && index >= upToDate) else { return conclude() }
        if backends[index].isClosed { moveOn() }
        cursor = []
        asked = refusesQuery || backends[index].queries == nil ? nil : pageQuery
        guard asked != nil || beginScan() else { return }
      }
      guard submit(backends[index]) else { return }
      guard takeOutcome() else { return }
    }
  }

  /// False when the list has been answered.
  private func beginScan() -> Bool {
    do throws(ListError) {
      collector = try ListCollector(query, bounds: caller.kernel.listBounds.withLock { $0 })
    } catch {
      fail(CallFailure(code: BP_INVALID_ARGUMENT, "\(error)"))
      return false
    }
    if collector == nil { answer(.empty) }
    return collector != nil
  }

  /// Begins anew in the published generation, because a backend of ours has been replaced. A scan that is under way is
  /// finished where it began.
  private func moveOn() {
    let ring = caller.kernel.ring
    guard let fresh = ring.acquire(newerThan: lease) else { return }
    guard !fresh.generation.backends.isEmpty else { return ring.release(fresh) }
    ring.release(lease)
    lease = fresh
    generation.store(fresh.number, ordering: .relaxed)
    (backends, upToDate) = fresh.generation.readable()
    index = 0
    someAnswered = false
    refusesQuery = false
  }

  /// True when the scan has completed and the loop may go on.
  private func submit(_ backend: Instance) -> Bool {
    turn.store(0, ordering: .relaxed)
    guard backend.admits || (backend.isClosed && !cursor.isEmpty) else {
      scanOutcome = .failed(Admission.failure(backend))
      return true
    }
    let context = Unmanaged.passRetained(self)
    let startNs = Clock.monotonicNs()
    let operation: Operation = asked == nil ? .scan : .query
    let token = CallSlab.shared.open(
      backend, operation, context: context.toOpaque(),
      handler: { context, result in
        Unmanaged<ListRequest>.fromOpaque(context!).takeRetainedValue().scanned(result!)
      }, startNs: startNs)
    guard token != 0 else {
      context.release()
      scanOutcome = .failed(.tooManyCalls)
      return true
    }
    open.withLock { $0 = (backend, operation, token) }
    let mark = ThreadMark.own
    let ask: @Sendable (UInt64) -> Void = { [self, asked] startNs in
      guard let asked else { return scan(backend, token, startNs) }
      asked.submit(
        to: backend, token, prefix: prefix, call, generation: generation.load(ordering: .relaxed), startNs: startNs)
    }
    if backend.directness.mode(operation) == BP_MODE_DIRECT, isOnWorker || mark.pointee.nesting < ReadPath.nestingMax {
      mark.nested { ask(startNs) }
      if turn.load(ordering: .acquiring) == 0 { BrokenPromise.revoke(backend, operation, token) }
    } else {
      register()
      Dispatcher.run(backend, operation, token) { ask(Clock.monotonicNs()) }
    }
    if operation == .scan { pages += 1 }
    return turn.exchange(1, ordering: .acquiringAndReleasing) == 2
  }

  private func scan(_ backend: Instance, _ token: bp_token, _ startNs: UInt64) {
    prefix.withUnsafeBufferPointer { prefix in
      cursor.withUnsafeBufferPointer { cursor in
        var request = bp_scan(
          size: UInt32(MemoryLayout<bp_scan>.size), flags: 0, token: token, call: call.header,
          prefix: bp_view(prefix), cursor: bp_view(cursor), credits: ListRequest.pageRecords, reserved: 0)
        ThreadMark.own.during(
          .scan, backend.handle, generation: lease.number, startNs: startNs, header: call.header
        ) { backend.backend!.pointee.scan(backend.pointer, &request) }
      }
    }
  }

  /// A page has come; its views are valid until this returns.
  private func scanned(_ result: UnsafePointer<bp_result>) {
    scanOutcome = asked.map { takeQuery(result, $0) } ?? take(result)
    if turn.exchange(2, ordering: .acquiringAndReleasing) == 1, takeOutcome() { run() }
  }

  private func take(_ result: UnsafePointer<bp_result>) -> ScanOutcome {
    guard result.pointee.code == BP_OK else { return .failed(CallFailure(result)) }
    guard let collector else { return .end }
    let page = UnsafeRawPointer(result).assumingMemoryBound(to: bp_scan_result.self).pointee
    let stride = Int(page.item_size)
    guard page.items_count == 0 || stride >= MemoryLayout<bp_scan_item>.size else {
      return .failed(CallFailure(code: BP_INTERNAL, "the backend's scan items are smaller than this kernel's"))
    }
    do throws(ListError) {
      for index in 0..<Int(page.items_count) {
        let item = UnsafeRawPointer(page.items!).advanced(by: index * stride).load(as: bp_scan_item.self)
        try collector.add(uri: item.uri.bytes, ts_ms: Int64(clamping: item.ts_ms))
      }
    } catch {
      if let key = error.settingKey { caller.kernel.listRefusals.withLock { $0[key, default: 0] += 1 } }
      return .failed(CallFailure(code: BP_RESOURCE_EXHAUSTED, "\(error)"))
    }
    let next = Array(page.cursor.bytes)
    guard !next.isEmpty else { return .end }
    guard next != cursor else {
      return .failed(CallFailure(code: BP_INTERNAL, "the backend's scan does not move on"))
    }
    cursor = next
    return .more
  }

  private func takeQuery(_ result: UnsafePointer<bp_result>, _ query: ListPageQuery) -> ScanOutcome {
    switch query.outcome(result) {
    case .refused: return .refused
    case .failed(let failure): return .failed(failure)
    case .page(_, total: 0): return .nothing
    case .page(let uris, let total):
      answer(uris, total: total)
      return .answered
    }
  }

  /// False when the list has been answered.
  private func takeOutcome() -> Bool {
    let outcome = scanOutcome
    scanOutcome = nil
    switch outcome {
    case .more, nil: return true
    case .answered: return false
    case .refused:
      refusesQuery = true
      return true
    case .nothing: someAnswered = true
    case .end:
      let page = collector!.finish()
      collector = nil
      someAnswered = true
      if page.total > 0 {
        answer(page)
        return false
      }
    case .failed(let failed):
      collector = nil
      failure = failed
      // A bound of the list itself would be hit in every backend.
      if failed.code == BP_RESOURCE_EXHAUSTED || failed.code == BP_INVALID_ARGUMENT {
        fail(failed)
        return false
      }
    }
    index += 1
    refusesQuery = false
    return true
  }

  private func conclude() {
    if someAnswered { answer(.empty) } else { fail(failure ?? .noBackend) }
  }

  private func answer(_ page: ListPage) {
    var views: [bp_view] = []
    views.reserveCapacity(page.count)
    page.forEachURI { (uri) throws(Never) in views.append(bp_view(uri)) }
    withExtendedLifetime(page) { answer(views, total: UInt64(page.total)) }
  }

  private func answer(_ uris: [bp_view], total: UInt64) {
    guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
    uris.withUnsafeBufferPointer { uris in
      var result = bp_list_result()
      result.result.size = UInt32(MemoryLayout<bp_list_result>.size)
      result.uris = uris.baseAddress
      result.uris_count = UInt64(uris.count)
      result.total = total
      result.page = UInt64(query.page)
      result.limit = UInt64(query.limit)
      withUnsafePointer(to: &result) {
        completion.answer(caller.handle, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
      }
    }
    end(BP_OK)
  }

  private func fail(_ failure: CallFailure) {
    guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
    Answers.complete(completion, of: caller, failure, as: bp_list_result.self)
    end(failure.code)
  }

  private func end(_ code: bp_code) {
    answered(code, call.sinceNs)
    caller.kernel.requests.remove(requestToken.load(ordering: .acquiring))
  }

  func giveUp(_ code: bp_code, _ message: StaticString) {
    fail(CallFailure(code: code, "\(message)", isRetryable: true))
    if let (backend, _, token) = open.withLock({ $0 }) { backend.giveUp(token, code) }
  }
}
