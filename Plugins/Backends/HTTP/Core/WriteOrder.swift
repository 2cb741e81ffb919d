import PluginAPI
import Synchronization

/// One unit on its way to the remote.
final class WriteJob: @unchecked Sendable {
  // @unchecked: `predecessorsCount` and `followers` are touched under the lock of the order they are in; the rest never
  // changes.
  let unit: UnitCall
  let request: RemoteRequest
  let isDelete: Bool
  let entry: LoopGuard.Entry
  /// Every URI it writes, each once; empty: it goes out at once.
  let uris: [String]
  fileprivate var predecessorsCount = 0
  fileprivate var followers: [WriteJob] = []

  init(_ unit: UnitCall, _ request: RemoteRequest, isDelete: Bool, entry: LoopGuard.Entry, uris: [String]) {
    self.unit = unit
    self.request = request
    self.isDelete = isDelete
    self.entry = entry
    self.uris = uris
  }
}

/// Lets units to the same URI go out one after the other, in the order they came in; different connections would
/// reorder them.
final class WriteOrder: Sendable {
  private struct State {
    /// The last unit, of those that have not ended, that writes a URI.
    var last: [String: WriteJob] = [:]
    var count = 0
  }
  private let state = Mutex(State())
  private let countMax: Int

  init(countMax: Int) { self.countMax = countMax }

  enum Place {
    case first
    case behind
    case full
  }

  /// `.first`: nothing is before it, send it. Whatever is not `.full` must be `ended` when it has ended.
  func enter(_ job: WriteJob) -> Place {
    state.withLock { state in
      guard state.count < countMax else { return .full }
      state.count += 1
      for uri in job.uris {
        if let before = state.last.updateValue(job, forKey: uri) {
          before.followers.append(job)
          job.predecessorsCount += 1
        }
      }
      return job.predecessorsCount == 0 ? .first : .behind
    }
  }

  /// The units that were waiting for this one and for no other.
  func ended(_ job: WriteJob) -> [WriteJob] {
    state.withLock { state in
      state.count -= 1
      for uri in job.uris where state.last[uri] === job { state.last[uri] = nil }
      let followers = job.followers
      job.followers = []
      return followers.filter { follower in
        follower.predecessorsCount -= 1
        return follower.predecessorsCount == 0
      }
    }
  }
}
