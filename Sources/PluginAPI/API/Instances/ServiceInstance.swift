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

  deinit { service.deallocate() }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? {
    id.equals("backplane.service/1") ? UnsafeRawPointer(service) : nil
  }

  override func cancel(_ token: bp_token) { executor?.cancel(token) }

  override func nodeReady(_ call: bp_call, _ token: bp_token) {
    run(call, token) { plugin, deadline in try await plugin.nodeReady(deadline) }
  }

  override func nodeEnding(_ call: bp_call, _ token: bp_token) {
    run(call, token) { plugin, deadline in await plugin.nodeEnding(deadline) }
  }

  private func run(_ call: bp_call, _ token: bp_token, _ body: @escaping @Sendable (P, Deadline) async throws -> Void) {
    let plugin = plugin!
    let host = host
    guard let executor else {
      return host.fail(token, .unavailable("the service is not started"), as: bp_result.self)
    }
    let deadline = Deadline(monotonicNs: call.deadline_ns == 0 ? .max : call.deadline_ns)
    executor.submit(token) {
      do {
        try await body(plugin, deadline)
        var result = bp_result.ok(bp_result.self)
        host.complete(token, with: &result)
      } catch {
        host.fail(token, Failure(error), as: bp_result.self)
      }
    }
  }
}
