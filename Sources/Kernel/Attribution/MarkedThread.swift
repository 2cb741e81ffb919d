import BackplaneABI
import SystemShims

/// A thread that is in a plugin now, as another thread sees it.
struct MarkedThread {
  /// Its place among the marks.
  let index: Int
  let thread: Int32
  let handle: bp_instance
  let call: MarkedCall
  /// Whose lease the call holds; 0 for a call without one.
  let generation: UInt64
  /// CLOCK_MONOTONIC; 0 when nobody looked.
  let startNs: UInt64
  let sequence: UInt64
  /// The call's header while the mark stands; only to compare, and for `peek`.
  let header: UnsafeRawPointer?

  /// Every thread that is in a plugin. What changes while it is read is left out.
  static func all() -> [MarkedThread] {
    (0..<Int(BP_MARKS_THREADS_MAX)).compactMap { index in
      let mark = bp_marks_thread(UInt32(index))!
      let seen = mark.pointee
      guard seen.thread != 0, seen.word != 0,
        let call = MarkedCall(rawValue: UInt8(truncatingIfNeeded: seen.word >> 56))
      else { return nil }
      let again = mark.pointee
      guard again.word == seen.word, again.sequence == seen.sequence else { return nil }
      return MarkedThread(
        index: index, thread: seen.thread, handle: seen.word & (1 << 56 - 1), call: call, generation: seen.generation,
        startNs: seen.start_ns, sequence: seen.sequence, header: seen.call)
    }
  }

  var instance: Instance? { InstanceRegistry.shared.find(handle) }

  /// Who asked and the trace of the call, when it is still the same call afterwards.
  func origin() -> (peer: String, traceHigh: UInt64, traceLow: UInt64)? {
    guard let header else { return nil }
    var call = bp_call()
    guard bp_marks_peek(header, &call, UInt64(MemoryLayout<bp_call>.size)) else { return nil }
    var peer = [UInt8](repeating: 0, count: Int(min(call.peer.size, 128)))
    if !peer.isEmpty, !bp_marks_peek(call.peer.data, &peer, UInt64(peer.count)) { peer = [] }
    let now = bp_marks_thread(UInt32(index))!.pointee
    guard now.sequence == sequence, now.word == ThreadMark.word(self.call, handle) else { return nil }
    return (
      Wording.printable(String(decoding: peer, as: UTF8.self), lengthMax: 128), call.trace_id_high, call.trace_id_low
    )
  }
}
