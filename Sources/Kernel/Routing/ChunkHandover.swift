import BackplaneABI
import Synchronization

/// Hands the answers of a read-multi to whoever asked: one at a time, though completions come on many threads, and nothing
/// after the end. A thread that finds another one at it leaves a copy behind instead of waiting for a caller's code.
final class ChunkHandover: Sendable {
  private struct State {
    var isAnswered = false
    /// A chunk is being handed over: the end waits for it.
    var isInChunk = false
    var copies: [CopiedRead] = []
    /// The end that waits for the chunk.
    var failure: (code: bp_code, message: StaticString)?
  }

  private let caller: Instance
  // nonisolated(unsafe): the caller's function and context, to be called from any thread (node.h).
  nonisolated(unsafe) private let completion: bp_completion
  private let answered: @Sendable (bp_code) -> Void
  private let state = Mutex(State())

  init(_ caller: Instance, _ completion: bp_completion, answered: @escaping @Sendable (bp_code) -> Void) {
    self.caller = caller
    self.completion = completion
    self.answered = answered
  }

  /// It has ended, or ends as soon as the chunk that is being handed over has returned.
  var isAnswered: Bool { state.withLock { $0.isAnswered || $0.failure != nil } }

  /// - Parameters:
  ///   - result: of a read; valid during the call.
  ///   - index: into the caller's array.
  func hand(over result: UnsafePointer<bp_result>, index: Int) {
    let isMine = state.withLock { state in
      if state.isAnswered || state.failure != nil { return false }
      if state.isInChunk {
        state.copies.append(CopiedRead(result, index))
        return false
      }
      state.isInChunk = true
      return true
    }
    guard isMine else { return }
    chunk(result, index)
    while let copy = nextCopy() { copy.with { chunk($0, copy.index) } }
  }

  /// What another thread has left meanwhile. Nil: this thread's turn is over.
  private func nextCopy() -> CopiedRead? {
    let (copy, failure) = state.withLock { state -> (CopiedRead?, (code: bp_code, message: StaticString)?) in
      if state.failure == nil, !state.copies.isEmpty { return (state.copies.removeFirst(), nil) }
      state.isInChunk = false
      state.copies = []
      if state.failure != nil { state.isAnswered = true }
      return (nil, state.failure)
    }
    if let failure { end(failure.code, failure.message) }
    return copy
  }

  private func chunk(_ result: UnsafePointer<bp_result>, _ index: Int) {
    var item = bp_read_item(
      chunk: bp_chunk(size: UInt32(MemoryLayout<bp_read_item>.size), count: 1, bytes: .empty), index: UInt32(index),
      reserved: 0, read: UnsafeRawPointer(result).assumingMemoryBound(to: bp_read_result.self))
    withUnsafePointer(to: &item) {
      let chunk = UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self)
      ThreadMark.own.during(.chunk, caller.handle) { completion.chunk?(completion.context, chunk) }
    }
  }

  /// Ends it, at once or after the chunk that is being handed over. False: another end was first.
  func answer(_ code: bp_code, _ message: StaticString) -> Bool {
    let (isFirst, isNow) = state.withLock { state in
      guard !state.isAnswered, state.failure == nil else { return (false, false) }
      if state.isInChunk { state.failure = (code, message) } else { state.isAnswered = true }
      return (true, state.isAnswered)
    }
    if isNow { end(code, message) }
    return isFirst
  }

  private func end(_ code: bp_code, _ message: StaticString) {
    Answers.with(code, message, retryable: code != BP_OK, as: bp_result.self) {
      completion.answer(caller.handle, $0)
    }
    answered(code)
  }
}

/// The result of a read that outlives its completion.
private struct CopiedRead: Sendable {
  let index: Int
  private let failure: CallFailure
  private let content: UInt32
  private let timestampMs: UInt64
  private let version: UInt64
  private let data: [UInt8]

  init(_ result: UnsafePointer<bp_result>, _ index: Int) {
    self.index = index
    failure = CallFailure(result)
    let isFound = result.pointee.code == BP_OK
    let record =
      isFound
      ? UnsafeRawPointer(result).assumingMemoryBound(to: bp_read_result.self).pointee.record : bp_record()
    content = record.content
    timestampMs = record.ts_ms
    version = record.version
    data = Array(record.data.bytes)
  }

  func with(_ body: (UnsafePointer<bp_result>) -> Void) {
    Answers.with(failure, as: bp_read_result.self) { result in
      data.withUnsafeBufferPointer { data in
        let read = UnsafeMutableRawPointer(mutating: result).assumingMemoryBound(to: bp_read_result.self)
        read.pointee.record = bp_record(
          size: UInt32(MemoryLayout<bp_record>.size), content: content, ts_ms: timestampMs, version: version,
          data: bp_view(data))
        body(result)
      }
    }
  }
}
