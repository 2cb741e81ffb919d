import Synchronization

final class ServiceInstance<P: Service>: Instance<P> {
  private let service: UnsafeMutablePointer<bp_service> = {
    let table = UnsafeMutablePointer<bp_service>.allocate(capacity: 1)
    table.initialize(
      to: bp_service(
        size: .size(of: bp_service.self), flags: 0,
        node_ready: { pointer, call, token in InstanceBox.with(pointer) { $0.nodeReady(call!.pointee, token) } },
        node_ending: { pointer, call, token in InstanceBox.with(pointer) { $0.nodeEnding(call!.pointee, token) } }))
    return table
  }()
  private let work: ServiceWork

  override init(_ host: HostHandle, state: StateSide<P>? = nil) {
    work = ServiceWork(host)
    super.init(host, state: state)
  }

  deinit { service.deallocate() }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? {
    id.equals("backplane.service/1") ? UnsafeRawPointer(service) : nil
  }

  override func cancel(_ token: bp_token) { executor?.cancel(token) }

  override func nodeReady(_ call: bp_call, _ token: bp_token) {
    let plugin = plugin!
    let work = work
    submit(call, token) { executor, deadline in
      try await plugin.nodeReady(deadline)
      work.begin(on: executor) { try await plugin.run() }
    }
  }

  override func nodeEnding(_ call: bp_call, _ token: bp_token) {
    let plugin = plugin!
    submit(call, token) { _, deadline in await plugin.nodeEnding(deadline) }
  }

  private func submit(
    _ call: bp_call, _ token: bp_token, _ body: @escaping @Sendable (InstanceExecutor, Deadline) async throws -> Void
  ) {
    let host = host
    guard let executor else {
      return host.fail(token, .unavailable("the service is not started"), as: bp_result.self)
    }
    let deadline = Deadline(monotonicNs: call.deadline_ns == 0 ? .max : call.deadline_ns)
    executor.submit(token) {
      do {
        try await body(executor, deadline)
        var result = bp_result.ok(bp_result.self)
        host.complete(token, with: &result)
      } catch {
        host.fail(token, Failure(error), as: bp_result.self)
      }
    }
  }

  override func quiesce(_ report: Reporter, deadlineNs: UInt64) -> bp_code {
    if let executor { work.end(on: executor) }
    return super.quiesce(report, deadlineNs: deadlineNs)
  }

  override func stop(_ report: Reporter, deadlineNs: UInt64) -> bp_code {
    if let executor { work.end(on: executor) }
    return super.stop(report, deadlineNs: deadlineNs)
  }
}

/// `Service.run` of one instance: begun once at most, and ended once.
private final class ServiceWork: Sendable {
  private enum State {
    case notBegun
    case running(Task<Void, Never>)
    /// It is to begin no more.
    case ended
  }
  private let host: HostHandle
  private let state = Mutex(State.notBegun)
  /// Names the work among the executor's tasks; the host gives no such token.
  private static let token: bp_token = .max

  init(_ host: HostHandle) { self.host = host }

  func begin(on executor: InstanceExecutor, _ run: @escaping @Sendable () async throws -> Void) {
    let host = host
    state.withLock { state in
      guard case .notBegun = state else { return }
      let task = executor.submit(ServiceWork.token) {
        do { try await run() } catch {
          // Whatever it ends with when it was told to end.
          guard !Task.isCancelled else { return }
          let message = Failure(error).message
          message.withView { host.table.pointee.health(host.instance, Context.Health.unhealthy.rawValue, $0) }
          Log(host: host).error("the service has ended by itself", ["reason": message])
        }
      }
      state = .running(task)
    }
  }

  /// Cancels it and waits for its end; the host bounds that.
  func end(on executor: InstanceExecutor) {
    let task: Task<Void, Never>? = state.withLock { state in
      defer { state = .ended }
      if case .running(let task) = state { return task }
      return nil
    }
    guard let task else { return }
    task.cancel()
    _ = executor.wait { await task.value }
  }
}
