import PluginAPI
import Synchronization

/// Names of the directories that scans have not finished, so that the next page need not read a large directory again.
///
/// One run for each directory and what is wanted of it, the newest, and a scan that begins in a directory reads it anew.
/// So a run is never older than the scans that it is good for: whatever is there throughout a scan was there when it was
/// read.
final class RunCache: Sendable {
  struct Key: Hashable {
    var directory: [UInt8]
    /// What the names must begin with; empty: nothing.
    var filter: [UInt8]
  }

  private struct Kept {
    var key: Key
    var run: DirectoryRun
  }

  private struct State {
    /// The one used last is the last.
    var runs: [Kept] = []
    var sizeBytes = 0
  }

  let sizeBytesMax: Int
  private let numbers = Atomic<UInt64>(0)
  private let state = Mutex(State())

  init(sizeBytesMax: Int) { self.sizeBytesMax = sizeBytesMax }

  /// How large a run may be, so that several scans have room.
  var runSizeBytesMax: Int { sizeBytesMax / 4 }

  /// For a run whose reading begins now.
  func nextNumber() -> UInt64 { numbers.add(1, ordering: .relaxed).newValue }

  /// A run that knows what comes after `place`, and where.
  func find(_ key: Key, after place: RecordPath.Step) -> (run: DirectoryRun, index: Int)? {
    state.withLock { state in
      guard let found = state.runs.firstIndex(where: { $0.key == key }),
        let index = state.runs[found].run.index(after: place)
      else { return nil }
      let kept = state.runs.remove(at: found)
      state.runs.append(kept)
      return (kept.run, index)
    }
  }

  func keep(_ key: Key, _ run: DirectoryRun) {
    state.withLock { state in
      if let there = state.runs.first(where: { $0.key == key }), there.run.number > run.number { return }
      remove(key, &state)
      state.runs.append(Kept(key: key, run: run))
      state.sizeBytes += run.sizeBytes
      while state.sizeBytes > sizeBytesMax, state.runs.count > 1 {
        state.sizeBytes -= state.runs.removeFirst().run.sizeBytes
      }
    }
  }

  /// Nobody needs it any more.
  func forget(_ key: Key) { state.withLock { remove(key, &$0) } }

  private func remove(_ key: Key, _ state: inout State) {
    guard let old = state.runs.firstIndex(where: { $0.key == key }) else { return }
    state.sizeBytes -= state.runs.remove(at: old).run.sizeBytes
  }
}
