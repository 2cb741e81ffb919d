import BackplaneABI
import Glibc
import SystemShims

@testable import IsolationWire

/// A payload that ends where the next byte cannot be read: whoever reads too far dies of it.
final class GuardedPayload {
  private let start: UnsafeMutableRawPointer
  private let pages: Int
  private static let pageBytes = 4096

  init(sizeMax: Int) {
    pages = (sizeMax + Self.pageBytes - 1) / Self.pageBytes + 1
    start = mmap(nil, pages * Self.pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    mprotect(start + (pages - 1) * Self.pageBytes, Self.pageBytes, PROT_NONE)
  }

  deinit { munmap(start, pages * Self.pageBytes) }

  func hold(_ bytes: [UInt8]) -> UnsafeRawBufferPointer {
    let end = start + (pages - 1) * Self.pageBytes
    let place = end - bytes.count
    bytes.withUnsafeBytes { if let source = $0.baseAddress { place.copyMemory(from: source, byteCount: bytes.count) } }
    return UnsafeRawBufferPointer(start: place, count: bytes.count)
  }
}

/// Keeps what arrives.
final class Catcher: FrameHandler {
  var frames: [(kind: FrameKind?, id: UInt64, payload: [UInt8])] = []
  func handle(_ frame: inout Frame) -> Bool {
    frames.append((frame.kind, frame.id, Array(frame.payload)))
    return true
  }
}

/// The payloads that `send` puts on a connection.
func caught(
  memory: (SharedMemory, SharedMemory)? = nil, _ send: (Connection) -> Void
) -> [(kind: FrameKind?, id: UInt64, payload: [UInt8])] {
  var pair: [Int32] = [-1, -1]
  guard bp_shim_socket_pair(&pair) == 0 else { return [] }
  let sender = Connection(pair[0], memory: memory?.0, patience: .handsOver, waitingBytesMax: .max)
  let receiver = Connection(pair[1], memory: memory?.1, patience: .waits, waitingBytesMax: .max)
  let catcher = UncheckedCatcher()
  let reader = WireThread.start(name: "reader") { _ = Receiver.run(receiver, .copies, catcher.value) }
  guard let reader else { return [] }
  send(sender)
  while sender.waitingBytes > 0 { usleep(1000) }
  sender.shutDown()
  pthread_join(reader, nil)
  sender.finish()
  return catcher.value.frames
}

struct UncheckedCatcher: @unchecked Sendable {
  // @unchecked: looked at when the thread that writes to it has been joined.
  let value = Catcher()
}

func text(_ view: bp_view) -> String {
  String(decoding: UnsafeBufferPointer(start: view.data, count: Int(view.size)), as: UTF8.self)
}

/// Views of texts that live for the length of `body`.
func withViews<R>(_ texts: [String], _ body: ([bp_view]) -> R) -> R {
  let copies = texts.map { strdup($0)! }
  defer { for copy in copies { free(copy) } }
  return body(
    zip(texts, copies).map { text, copy in
      bp_view(
        data: UnsafeRawPointer(copy).assumingMemoryBound(to: UInt8.self), size: UInt64(text.utf8.count))
    })
}

/// The same numbers at every run.
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }
}
