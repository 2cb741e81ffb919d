import Glibc
import PluginAPI

/// A thread of the instance's own, joined by `join`.
final class WorkerThread: Sendable {
  private let thread: pthread_t

  private final class Body {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  init(_ run: @escaping @Sendable () -> Void) throws(Failure) {
    let context = Unmanaged.passRetained(Body(run)).toOpaque()
    var thread = pthread_t()
    let error = pthread_create(
      &thread, nil,
      { context in
        Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, context)
    guard error == 0 else {
      Unmanaged<Body>.fromOpaque(context).release()
      throw .unavailable("no thread could be made (error \(error)); check the limits")
    }
    self.thread = thread
  }

  /// Once, and not on the thread itself.
  func join() { pthread_join(thread, nil) }
}
