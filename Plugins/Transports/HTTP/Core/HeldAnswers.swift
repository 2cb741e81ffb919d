import NIOCore
import TransportSupport

/// Answers that one turn of the loop has made and that go out together.
///
/// Sending an answer costs most where its reader sleeps: it is woken, on another processor, by whoever sends, and sleeps
/// again before the next answer is there when that takes long, as a verified signature does. Answers that go out
/// one behind the other wake it once. Nobody waits long for it: a few answers or a moment, and never beyond the turn.
///
/// Confined to the loop.
struct HeldAnswers {
  /// No more answers than this wait for each other.
  private static let connectionsMax = 16
  /// No answer waits longer than this for the next one to be ready.
  private static let holdNsMax: UInt64 = 500_000

  private var connections: [Connection] = []
  /// Output buffers for the next answers, while NIO has those that were written.
  private var spares: [ByteBuffer] = []
  private var sinceNs: UInt64 = 0
  private var isScheduled = false

  /// Keeps `connection`, to which `output` was written and not flushed, until `send`. Puts another buffer into `output`.
  /// - Returns: whether the time to send has come; or else whether the turn's end is to be awaited.
  mutating func hold(_ connection: Connection, _ output: inout ByteBuffer) -> (isDue: Bool, awaitsEnd: Bool) {
    let index = connections.count
    connections.append(connection)
    if spares.count == index { spares.append(ByteBufferAllocator().buffer(capacity: LoopState.outputCapacity)) }
    swap(&spares[index], &output)
    let now = monotonicNs()
    if index == 0 { sinceNs = now }
    let awaitsEnd = !isScheduled
    isScheduled = true
    return (connections.count == Self.connectionsMax || now &- sinceNs > Self.holdNsMax, awaitsEnd)
  }

  mutating func turnEnded() { isScheduled = false }

  /// Those that are held. They are no longer after this.
  mutating func take() -> [Connection] {
    defer { connections.removeAll(keepingCapacity: true) }
    return connections
  }
}
