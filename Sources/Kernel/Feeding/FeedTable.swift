import BackplaneABI
import Synchronization

/// backplane.feed/1.
enum FeedTable {
  static let id = "backplane.feed/1"

  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_feed> = {
    let table = UnsafeMutablePointer<bp_feed>.allocate(capacity: 1)
    table.initialize(
      to: bp_feed(
        size: UInt32(MemoryLayout<bp_feed>.size), reserved: 0,
        subscribe: { FeedTable.subscribe($0, $2, $3) }))
    return UnsafePointer(table)
  }()

  private static func subscribe(
    _ handle: bp_instance, _ request: UnsafePointer<bp_subscribe>?, _ completion: bp_completion
  ) -> bp_token {
    guard let caller = InstanceRegistry.shared.find(handle) else {
      Answers.complete(completion, BP_CLOSED, "the instance is gone", as: bp_result.self)
      return 0
    }
    switch caller.state {
    // A transport accepts as soon as it listens, within its own start.
    case .configured, .serving, .quiesced: break
    default:
      Answers.complete(completion, BP_CLOSED, "the instance is not started", as: bp_result.self)
      return 0
    }
    guard let request = request?.pointee, completion.chunk != nil else {
      Answers.complete(
        completion, BP_INVALID_ARGUMENT, "a subscription needs a request and a function for chunks", as: bp_result.self)
      return 0
    }
    let prefix: [UInt8]
    switch FeedTable.prefix(request.prefix, caller.kernel) {
    case .success(let normal): prefix = normal
    case .failure(let failure):
      Answers.complete(completion, of: caller, failure, as: bp_result.self)
      return 0
    }
    // `stop` waits for it as for any call of the instance's.
    caller.outgoing.add(1, ordering: .relaxed)
    switch caller.kernel.feed.subscribe(
      handle, prefix: prefix, request, completion, ended: { caller.outgoing.subtract(1, ordering: .releasing) })
    {
    case .token(let token): return token
    case .refused(let failure):
      Answers.complete(completion, of: caller, failure, as: bp_result.self)
      caller.outgoing.subtract(1, ordering: .releasing)
      return 0
    }
  }

  /// The prefix in the form that records have; empty for everything.
  private static func prefix(_ uri: bp_view, _ kernel: KernelContext) -> Result<[UInt8], CallFailure> {
    guard Int(clamping: uri.size) <= kernel.uriSizeBytesMax.load(ordering: .relaxed) else {
      return .failure(CallFailure(code: BP_INVALID_ARGUMENT, "the prefix is longer than limits.uri_size_bytes_max"))
    }
    // For this moment only: a subscription holds no lease.
    guard let lease = kernel.ring.acquireAdmitted() else {
      return .failure(CallFailure(code: BP_UNAVAILABLE, "the node is not up yet", isRetryable: true))
    }
    defer { kernel.ring.release(lease) }
    if uri.size == 0 { return .success([]) }
    return NormalForm.with(uri, lease.generation) { normal -> Result<[UInt8], CallFailure> in
      guard let normal else { return .failure(CallFailure(code: BP_INVALID_ARGUMENT, "Invalid URI format")) }
      return .success(Array(normal.bytes))
    } unavailable: {
      .failure(.noCanonicalForm)
    }
  }
}
