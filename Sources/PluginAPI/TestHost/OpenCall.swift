import PluginAPI

/// One submitted call as the host keeps it, until the plugin has completed it.
final class OpenCall: @unchecked Sendable {
  // @unchecked: the variables are only touched under the lock of the HostCore that owns this call.

  /// The size of the kind's result struct.
  let resultSize: Int
  /// Its name, for sentences.
  let resultName: String
  /// The request's memory: kept until the completion, also when the caller has had its answer.
  let arena: RequestArena

  /// Takes the end to the caller; nil once it has been answered.
  var answer: (@Sendable (UnsafePointer<bp_result>) -> Void)?
  /// Takes a chunk to the caller.
  var chunk: (@Sendable (UnsafePointer<bp_chunk>) -> Void)?
  var credits: UInt64
  /// A chunk was refused since the last grant.
  var wasRefused = false
  /// Nobody listens any more: chunks are answered with BP_CANCELLED.
  var isGivenUp = false
  var timer: Task<Void, Never>?
  /// How much input the plugin allows now (`bp_host.grant`); nil when the call takes none.
  var inputCredits: UInt64?
  /// Whoever has input and no credit for it.
  var inputWaiters: [CheckedContinuation<Void, Never>] = []

  init(
    resultSize: Int, resultName: String, arena: RequestArena, credits: UInt64, takesInput: Bool,
    answer: @escaping @Sendable (UnsafePointer<bp_result>) -> Void,
    chunk: (@Sendable (UnsafePointer<bp_chunk>) -> Void)?
  ) {
    inputCredits = takesInput ? 0 : nil
    self.resultSize = resultSize
    self.resultName = resultName
    self.arena = arena
    self.credits = credits
    self.answer = answer
    self.chunk = chunk
  }
}

/// Tokens: 16 bits of the instance's number, 24 bits of sequence, 24 bits of index plus one. Never a pointer.
struct CallSlab {
  enum Lookup {
    case open(OpenCall)
    case finished
    case foreign
    case unknown
  }

  private struct Entry {
    var sequence: UInt64 = 0
    var call: OpenCall?
  }

  private let salt: UInt64
  private var entries: [Entry] = []
  private var free: [Int] = []

  init(instance: bp_instance) { salt = (instance & 0xFFFF) << 48 }

  mutating func insert(_ call: OpenCall) -> bp_token {
    let index: Int
    if let reused = free.popLast() {
      index = reused
    } else {
      index = entries.count
      entries.append(Entry())
    }
    entries[index].sequence += 1
    entries[index].call = call
    return salt | (entries[index].sequence & 0xFF_FFFF) << 24 | UInt64(index + 1)
  }

  func find(_ token: bp_token) -> Lookup {
    guard token & 0xFFFF << 48 == salt else { return token == 0 ? .unknown : .foreign }
    let index = Int(token & 0xFF_FFFF) - 1
    let sequence = token >> 24 & 0xFF_FFFF
    guard entries.indices.contains(index), sequence >= 1, sequence <= entries[index].sequence else { return .unknown }
    guard sequence == entries[index].sequence, let call = entries[index].call else { return .finished }
    return .open(call)
  }

  mutating func remove(_ token: bp_token) {
    guard case .open = find(token) else { return }
    let index = Int(token & 0xFF_FFFF) - 1
    entries[index].call = nil
    free.append(index)
  }

  var open: [(token: bp_token, call: OpenCall)] {
    entries.enumerated().compactMap { index, entry in
      entry.call.map { (salt | (entry.sequence & 0xFF_FFFF) << 24 | UInt64(index + 1), $0) }
    }
  }
}
