import Glibc

/// A value that a thread waits for.
final class Awaited<Value: Sendable>: @unchecked Sendable {
  // @unchecked: written once before the semaphore is posted, read after it was waited for.
  private var value: Value?
  private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  init() { sem_init(semaphore, 0, 0) }

  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }

  /// Once.
  func put(_ value: Value) {
    self.value = value
    sem_post(semaphore)
  }

  /// Blocks. Once.
  func take() -> Value {
    while sem_wait(semaphore) != 0 {}
    return value!
  }
}
