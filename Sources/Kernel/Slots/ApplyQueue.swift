import BackplaneABI
import Glibc

/// Units on their way to one backend. What arrives while another thread is handing units over goes along with the next
/// call, so that a backend sees batches whenever writes are concurrent, and no write is ever held back to make one.
///
/// The order in which units are submitted is the order in which the backend gets them.
final class ApplyQueue: @unchecked Sendable {
  // @unchecked: `units` and `isBusy` are only touched under the mutex.

  /// Units of one call.
  static let unitsMax = 1024
  /// Calls that one submitter makes for others before a thread of the kernel's goes on: it may be an event loop.
  private static let callsMax = 16

  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private var units: [bp_unit] = []
  /// Somebody hands units over, and will look again before it stops.
  private var isBusy = false

  init() {
    pthread_mutex_init(mutex, nil)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  /// Hands a unit over, or leaves it to whoever is at that already. Its token is open; what it points to lives until
  /// that is completed. For backends whose `apply` is asynchronous or may block.
  func submit(_ unit: bp_unit, to backend: Instance) {
    pthread_mutex_lock(mutex)
    units.append(unit)
    let wasBusy = isBusy
    isBusy = true
    pthread_mutex_unlock(mutex)
    if wasBusy { return }
    if backend.directness.mode(.apply) == BP_MODE_ASYNC { return handOver(to: backend, isBorrowed: true) }
    if !backend.workers(.apply).submit({ self.handOver(to: backend, isBorrowed: false) }) { refuse(backend) }
  }

  /// - Parameter isBorrowed: on a thread that has other things to do.
  private func handOver(to backend: Instance, isBorrowed: Bool) {
    var calls = 0
    while let batch = take() {
      let call = batch[0].call!
      batch.withUnsafeBufferPointer { batch in
        ThreadMark.own.during(
          .apply, backend.handle, generation: call.pointee.generation, startNs: Clock.monotonicNs(),
          header: UnsafeMutablePointer(mutating: call)
        ) { backend.backend!.pointee.apply(backend.pointer, batch.baseAddress, UInt32(batch.count)) }
      }
      calls += 1
      if isBorrowed, calls == ApplyQueue.callsMax,
        backend.kernel.workers.submit({ self.handOver(to: backend, isBorrowed: true) })
      {
        return
      }
    }
  }

  /// The next batch; nil when there is none, and then nobody hands over any more.
  private func take() -> [bp_unit]? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    guard !units.isEmpty else {
      isBusy = false
      return nil
    }
    guard units.count > ApplyQueue.unitsMax else {
      defer { units = [] }
      return units
    }
    defer { units.removeFirst(ApplyQueue.unitsMax) }
    return Array(units[..<ApplyQueue.unitsMax])
  }

  /// The slot's threads take nothing any more.
  private func refuse(_ backend: Instance) {
    while let batch = take() {
      for unit in batch {
        Answers.with(.slotGone, as: bp_write_result.self) { CallSlab.shared.revoke(unit.token, $0) }
      }
    }
  }
}
