import Glibc
import PluginAPI
import Synchronization

/// One line with a URI in, the record's bytes out. One thread of its own; the node is asked through the C table, since
/// nothing of a transport's may run on the shared pool.
final class TransportToy: Transport {
  private struct State {
    var listener: Int32 = -1
    var wake: [Int32] = [-1, -1]
    var thread: pthread_t?
  }

  private let context: Context
  private let state = Mutex(State())
  private let open = Atomic<Int>(0)

  init(_ configuration: NoConfiguration, _ context: Context) { self.context = context }

  func connections() -> Int { open.load(ordering: .relaxed) }

  func start() async throws {
    let socket = try context.borrowListener("toy")
    try state.withLock { state in
      state.listener = socket.descriptor
      guard pipe(&state.wake) == 0 else { throw Failure.exhausted("no pipe") }
      var thread = pthread_t()
      pthread_create(
        &thread, nil,
        { context in
          Unmanaged<TransportToy>.fromOpaque(context!).takeRetainedValue().work()
          return nil
        }, Unmanaged.passRetained(self).toOpaque())
      state.thread = thread
    }
  }

  func quiesce(_ deadline: Deadline) async { leave() }

  func stop() async { leave() }

  private func leave() {
    let (thread, listener, wake) = state.withLock { state in
      defer { state.thread = nil }
      return (state.thread, state.listener, state.wake)
    }
    guard let thread else { return }
    write(wake[1], "x", 1)
    pthread_join(thread, nil)
    for descriptor in wake + [listener] { close(descriptor) }
  }

  private func work() {
    let (listener, wake) = state.withLock { ($0.listener, $0.wake[0]) }
    while waitReadable(listener, or: wake) {
      let connection = accept(listener, nil, nil)
      guard connection >= 0 else { continue }
      open.add(1, ordering: .relaxed)
      serve(connection, wake)
      // A child that another test spawns meanwhile may hold a copy (Swift sees no accept4): end it for every holder, or
      // the client would wait for the child's end.
      shutdown(connection, Int32(SHUT_RDWR))
      close(connection)
      open.subtract(1, ordering: .relaxed)
    }
  }

  /// False when the thread is to end.
  private func waitReadable(_ descriptor: Int32, or wake: Int32) -> Bool {
    var both = [
      pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
    ]
    poll(&both, 2, -1)
    return both[1].revents == 0
  }

  private func serve(_ connection: Int32, _ wake: Int32) {
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while line.count < 256, waitReadable(connection, or: wake), recv(connection, &byte, 1, 0) == 1, byte != 10 {
      line.append(byte)
    }
    guard byte == 10, let node = context.node.table else { return }
    var call = bp_call()
    call.size = .size(of: bp_call.self)
    let answered = DispatchlessSemaphore(connection)
    let completion = bp_completion(
      context: Unmanaged.passUnretained(answered).toOpaque(),
      complete: { context, result in
        let answered = Unmanaged<DispatchlessSemaphore>.fromOpaque(context!).takeUnretainedValue()
        if result!.pointee.code == BP_OK {
          let record = UnsafeRawPointer(result!).load(as: bp_read_result.self).record
          send(answered.connection, record.data.data, Int(record.data.size), Int32(MSG_NOSIGNAL))
        } else {
          send(answered.connection, "none", 4, Int32(MSG_NOSIGNAL))
        }
        answered.signal()
      }, chunk: nil)
    line.withView { _ = node.pointee.read(context.host.instance, &call, $0, completion) }
    answered.wait()
  }

  static let entry = PluginEntry(TransportToy.self, id: "org.example.toy.transport", version: "1.0.0") {
    TransportToy.create($0, $1, $2)
  }
}

/// Waits on a thread for one completion.
private final class DispatchlessSemaphore: @unchecked Sendable {
  // @unchecked: sem_t is made for threads; the descriptor is constant.
  let connection: Int32
  private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  init(_ connection: Int32) {
    self.connection = connection
    sem_init(semaphore, 0, 0)
  }

  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }

  func signal() { sem_post(semaphore) }
  func wait() { while sem_wait(semaphore) != 0 {} }
}
