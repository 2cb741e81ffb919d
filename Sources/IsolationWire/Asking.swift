import Glibc
import Synchronization
import SystemShims

/// Questions that a thread waits for: one at a time, on a socket of their own, so that neither side's reader has to be
/// there for the answer - the reader itself may be the one that asks.
public final class AskingSocket: @unchecked Sendable {
  // @unchecked: the descriptor is fixed; whoever asks holds the lock for question and answer.
  public enum Failure: Error, Sendable {
    case closed
    case timedOut
  }

  public struct Reply: Sendable {
    public var bytes: [UInt8]
    /// -1: none came. The caller closes it.
    public var descriptor: Int32
  }

  public let descriptor: Int32
  private let asking = Mutex<UInt64>(0)

  /// Owns `descriptor`. No wait on it takes longer than `timeoutMs`; 0: as long as it takes.
  public init(_ descriptor: Int32, timeoutMs: UInt32) {
    self.descriptor = descriptor
    if timeoutMs > 0 { _ = bp_shim_socket_timeout(descriptor, timeoutMs) }
  }

  deinit { close(descriptor) }

  public func shutDown() { shutdown(descriptor, Int32(SHUT_RDWR)) }

  func closeUnwanted(_ given: Int32) { close(given) }

  // MARK: Asking

  func ask<Payload: WirePayload>(_ kind: FrameKind, _ payload: Payload) throws(Failure) -> Reply {
    let result = asking.withLock { last -> Result<Reply, Failure> in
      last += 1
      guard send(kind, last, payload, descriptor: -1) else { return .failure(.closed) }
      while true {
        switch receive() {
        case .failure(let failure): return .failure(failure)
        case .success(let question):
          // The late answer to a question that nobody waits for any more.
          if question.id != last {
            if question.descriptor >= 0 { close(question.descriptor) }
            continue
          }
          return .success(Reply(bytes: question.payload, descriptor: question.descriptor))
        }
      }
    }
    return try result.get()
  }

  // MARK: Answering

  public struct Question: Sendable {
    public var kind: FrameKind?
    public var id: UInt64
    public var payload: [UInt8]
    var descriptor: Int32
  }

  /// The next question, for the one thread that answers.
  public func next() throws(Failure) -> Question {
    let question = try receive().get()
    // Nobody asks with a descriptor.
    if question.descriptor >= 0 { close(question.descriptor) }
    return question
  }

  func reply<Payload: WirePayload>(_ id: UInt64, _ payload: Payload, descriptor: Int32 = -1) -> Bool {
    send(.reply, id, payload, descriptor: descriptor)
  }

  // MARK: Frames

  private static let questionBytesMax = 64 << 20

  private func send<Payload: WirePayload>(
    _ kind: FrameKind, _ id: UInt64, _ payload: Payload, descriptor given: Int32
  ) -> Bool {
    let size = payload.wireSize
    guard size <= AskingSocket.questionBytesMax else { return false }
    return withUnsafeTemporaryAllocation(byteCount: Wire.headerBytes + size, alignment: 16) { place in
      let start = place.baseAddress!
      start.storeBytes(of: UInt32(size), as: UInt32.self)
      start.storeBytes(of: kind.rawValue, toByteOffset: 4, as: UInt16.self)
      start.storeBytes(of: 0, toByteOffset: 6, as: UInt16.self)
      start.storeBytes(of: id, toByteOffset: 8, as: UInt64.self)
      var writer = WireWriter(start + Wire.headerBytes, count: size)
      payload.put(into: &writer)
      return bp_shim_send_with_descriptor(descriptor, start, Wire.headerBytes + size, given) == 0
    }
  }

  private func receive() -> Result<Question, Failure> {
    var header = (UInt64(0), UInt64(0))
    var given: Int32 = -1
    let failure = withUnsafeMutableBytes(of: &header) { fill($0, &given) }
    if let failure { return .failure(failure) }
    let (size, kind) = withUnsafeBytes(of: header) {
      (Int($0.load(as: UInt32.self)), FrameKind(rawValue: $0.load(fromByteOffset: 4, as: UInt16.self)))
    }
    guard size <= AskingSocket.questionBytesMax else {
      if given >= 0 { close(given) }
      return .failure(.closed)
    }
    var payload = [UInt8](repeating: 0, count: size)
    if let failure = payload.withUnsafeMutableBytes({ fill($0, &given) }) {
      if given >= 0 { close(given) }
      return .failure(failure)
    }
    return .success(Question(kind: kind, id: header.1, payload: payload, descriptor: given))
  }

  private func fill(_ place: UnsafeMutableRawBufferPointer, _ given: inout Int32) -> Failure? {
    var count = 0
    while count < place.count {
      let got = bp_shim_receive_with_descriptor(descriptor, place.baseAddress! + count, place.count - count, &given)
      if got < 0 { return errno == EAGAIN || errno == EWOULDBLOCK ? .timedOut : .closed }
      if got == 0 { return .closed }
      count += got
    }
    return nil
  }
}
