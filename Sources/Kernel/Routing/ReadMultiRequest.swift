import BackplaneABI
import Synchronization

/// Several reads, one after the other, each answered as a chunk. Direct backends are read on the caller's thread; the
/// others complete one another.
final class ReadMultiRequest: @unchecked Sendable {
  // @unchecked: one read runs at a time, each after the completion of the one before.
  private let caller: Instance
  private let call: OwnedCall
  /// The message whose judgement asks; its earlier ops are seen.
  private let parent: WriteRequest?
  private let lease: Lease
  private let completion: bp_completion
  private let answered: @Sendable () -> Void
  private let uris: [[UInt8]]
  private var index = 0
  private let turn = Atomic<Int>(0)

  init(
    _ caller: Instance, _ call: bp_call, parent: WriteRequest?, _ uris: [[UInt8]], _ lease: Lease,
    _ completion: bp_completion,
    answered: @escaping @Sendable () -> Void
  ) {
    self.caller = caller
    self.lease = caller.kernel.ring.extend(lease)
    self.call = OwnedCall(
      call, generation: 0, timeoutNsMax: caller.kernel.requestTimeoutNs.load(ordering: .relaxed))
    self.parent = parent
    self.uris = uris
    self.completion = completion
    self.answered = answered
  }

  deinit { caller.kernel.ring.release(lease) }

  func run() {
    while index < uris.count {
      turn.store(0, ordering: .relaxed)
      submit(uris[index])
      // Whoever comes second goes on: this loop, or the completion on its own thread.
      guard turn.exchange(1, ordering: .acquiringAndReleasing) == 2 else { return }
      index += 1
    }
    Answers.complete(completion, BP_OK, as: bp_result.self)
    answered()
  }

  private func submit(_ uri: [UInt8]) {
    let inner = bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        Unmanaged<ReadMultiRequest>.fromOpaque(context!).takeRetainedValue().completed(result!)
      }, chunk: nil)
    uri.withUnsafeBufferPointer { uri in
      NormalForm.with(bp_view(uri), lease.generation) { normal in
        guard let normal else {
          return Answers.complete(inner, BP_NOT_FOUND, as: bp_read_result.self)
        }
        if let record = parent?.overlay(normal.bytes) { return NodeTable.answer(record, inner) }
        _ = ReadPath.read(caller, call.header.pointee, normal, lease, inner, answered: nil)
      } unavailable: {
        Answers.complete(inner, of: caller, .noCanonicalForm, as: bp_read_result.self)
      }
    }
  }

  private func completed(_ result: UnsafePointer<bp_result>) {
    var item = bp_read_item(
      chunk: bp_chunk(size: UInt32(MemoryLayout<bp_read_item>.size), count: 1, bytes: .empty), index: UInt32(index),
      reserved: 0, read: UnsafeRawPointer(result).assumingMemoryBound(to: bp_read_result.self))
    withUnsafePointer(to: &item) {
      let chunk = UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self)
      ThreadMark.own.during(.chunk, caller.handle) { completion.chunk?(completion.context, chunk) }
    }
    if turn.exchange(2, ordering: .acquiringAndReleasing) == 1 {
      index += 1
      run()
    }
  }
}
