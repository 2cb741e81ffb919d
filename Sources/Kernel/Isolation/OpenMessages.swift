import BackplaneABI
import Glibc
import IsolationWire
import Synchronization

/// Where the messages lie that a schema is judging, by the token's place, so that a verdict can say "the data of the
/// message" without carrying it back.
final class OpenMessages: @unchecked Sendable {
  // @unchecked: an entry is written before its token goes out, and is read only when the token comes back; the word
  // orders the two. The views are followed only by the handler of a call that the slab says is open.
  private static let places = 1 << 16
  private let tokens: UnsafeMutablePointer<Atomic<UInt64>>
  private let views: UnsafeMutablePointer<MessageViews>

  init() {
    // Zeroed by the system page by page, when it is first used.
    tokens = calloc(OpenMessages.places, 8).assumingMemoryBound(to: Atomic<UInt64>.self)
    views = calloc(OpenMessages.places, MemoryLayout<MessageViews>.stride).assumingMemoryBound(to: MessageViews.self)
  }

  deinit {
    free(tokens)
    free(views)
  }

  private func place(_ token: bp_token) -> Int { Int(truncatingIfNeeded: token) & (OpenMessages.places - 1) }

  func open(_ token: bp_token, _ message: UnsafePointer<bp_message>) {
    let place = place(token)
    (views + place).initialize(to: MessageViews(message))
    (tokens + place).pointee.store(token, ordering: .releasing)
  }

  /// Nil when the token is not the one that was opened last in its place.
  func find(_ token: bp_token) -> MessageViews? {
    let place = place(token)
    guard (tokens + place).pointee.load(ordering: .acquiring) == token else { return nil }
    return views[place]
  }
}
