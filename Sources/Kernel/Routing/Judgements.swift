import BackplaneABI
import Synchronization

/// The messages that schemas are judging now, by the token of the judgement: a validator's read names the token as its
/// parent, and sees the earlier ops of the same message.
final class Judgements: Sendable {
  private let writes = Mutex<[bp_token: WriteRequest]>([:])

  func begin(_ token: bp_token, _ write: WriteRequest) { writes.withLock { $0[token] = write } }

  func end(_ token: bp_token) {
    // The write may go with this, and its deinit must not run under the lock.
    let ended = writes.withLock { $0.removeValue(forKey: token) }
    _ = ended
  }

  func find(_ token: bp_token) -> WriteRequest? {
    token == 0 ? nil : writes.withLock { $0[token] }
  }
}
