import BackplaneABI
import Synchronization

@testable import Kernel

/// The answers of one read_multi.
final class ReadAnswers: @unchecked Sendable {
  // @unchecked: `items` is under the lock; the rest is Sendable.
  struct Item: Sendable, Equatable {
    var code: bp_code
    var text = ""
  }

  let answer = Promise<bp_code>()
  let answersCount = Atomic<Int>(0)
  /// Chunks that came after the answer.
  let lateCount = Atomic<Int>(0)
  /// Chunks that came while another one was being taken.
  let overlapCount = Atomic<Int>(0)
  /// Runs within every chunk.
  let whileInChunk: @Sendable () -> Void
  private let isInChunk = Atomic<Bool>(false)
  private let items = Mutex<[(index: Int, item: Item)]>([])

  init(whileInChunk: @escaping @Sendable () -> Void = {}) { self.whileInChunk = whileInChunk }

  /// In the order in which they came.
  var codes: [bp_code] { items.withLock { $0.map(\.item.code) } }
  /// By the index of the URI; nil where nothing came, or more than once.
  func byIndex(_ count: Int) -> [Item?] {
    let items = items.withLock { $0 }
    return (0..<count).map { index in
      let found = items.filter { $0.index == index }
      return found.count == 1 ? found[0].item : nil
    }
  }

  var completion: bp_completion {
    bp_completion(
      // Kept for ever, so that a second answer would be counted instead of crashing.
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        let answers = Unmanaged<ReadAnswers>.fromOpaque(context!).takeUnretainedValue()
        answers.answersCount.add(1, ordering: .relaxed)
        answers.answer.set(result!.pointee.code)
      },
      chunk: { context, chunk in
        let answers = Unmanaged<ReadAnswers>.fromOpaque(context!).takeUnretainedValue()
        answers.take(UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_read_item.self).pointee)
      })
  }

  private func take(_ item: bp_read_item) {
    if isInChunk.exchange(true, ordering: .acquiringAndReleasing) { overlapCount.add(1, ordering: .relaxed) }
    if answersCount.load(ordering: .acquiring) > 0 { lateCount.add(1, ordering: .relaxed) }
    let code = item.read.pointee.result.code
    let taken = Item(code: code, text: code == BP_OK ? item.read.pointee.record.data.text : "")
    items.withLock { $0.append((Int(item.index), taken)) }
    whileInChunk()
    isInChunk.store(false, ordering: .releasing)
  }
}

extension WalkNode {
  /// Reads several records as a transport does.
  func readMulti(
    _ uris: [String], into answers: ReadAnswers = ReadAnswers(), withinMs: UInt64? = nil
  ) -> (ReadAnswers, bp_token) {
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    if let withinMs { call.deadline_ns = Clock.monotonicNs() + withinMs * 1_000_000 }
    let views = uris.map { uri in
      let bytes = Array(uri.utf8)
      let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
      _ = copy.initialize(from: bytes)
      return bp_view(UnsafeBufferPointer(copy))
    }
    // The node has copied them when it returns.
    defer { for view in views { view.data.deallocate() } }
    let token = views.withUnsafeBufferPointer {
      NodeTable.pointer.pointee.read_multi(
        caller.handle, &call, $0.baseAddress, UInt32($0.count), answers.completion)
    }
    return (answers, token)
  }
}
