import PluginAPI
import PluginTestHost

/// Runs traces on fresh instances, and makes a failing one small.
struct TraceShrinker {
  let bench: Workbench

  private static let attemptsMax = 200
  private static let timeMax = Duration.seconds(30)

  /// The mismatch of a trace, or nil. Throws when there was no instance to run it on.
  func mismatch(_ trace: Trace) async throws -> TraceRun.Mismatch? {
    try await bench.serving { host in
      var run = TraceRun(try BackendDriver(host))
      do throws(TraceRun.Mismatch) {
        try await run.run(trace)
        return nil
      } catch { return error }
    }
  }

  /// Throws a `Problem` with the smallest failing trace when the trace fails.
  func expect(_ trace: Trace, seed: UInt64? = nil) async throws {
    guard let first = try await mismatch(trace) else { return }
    let (smallest, last) = await shrink(trace, first)
    throw Problem(
      "\(last.sentence) (at step \(last.step + 1))." + (seed.map { " Seed \($0)." } ?? "")
        + " The smallest failing trace (\(smallest.steps.count) of \(trace.steps.count) steps):\n\(smallest.text)")
  }

  /// Drops steps, then ops, as long as it still fails.
  private func shrink(_ trace: Trace, _ first: TraceRun.Mismatch) async -> (Trace, TraceRun.Mismatch) {
    var best = Trace(Array(trace.steps.prefix(first.step + 1)))
    var last = first
    var attemptsCount = 0
    let clock = ContinuousClock()
    let end = clock.now + TraceShrinker.timeMax
    func stillFails(_ candidate: Trace) async -> Bool {
      guard attemptsCount < TraceShrinker.attemptsMax, clock.now < end else { return false }
      attemptsCount += 1
      guard let mismatch = try? await mismatch(candidate) else { return false }
      best = Trace(Array(candidate.steps.prefix(mismatch.step + 1)))
      last = mismatch
      return true
    }
    var chunk = max(1, best.steps.count / 2)
    while true {
      var start = 0
      while start < best.steps.count {
        var candidate = best
        candidate.steps.removeSubrange(start..<min(start + chunk, candidate.steps.count))
        if await !stillFails(candidate) { start += chunk }
      }
      if chunk == 1 { break }
      chunk /= 2
    }
    var index = 0
    while index < best.steps.count {
      guard case .apply(let ops, let stamp) = best.steps[index] else {
        index += 1
        continue
      }
      var op = 0
      var kept = ops
      while kept.count > 1, op < kept.count {
        var fewer = kept
        fewer.remove(at: op)
        var candidate = best
        candidate.steps[index] = .apply(fewer, stamp: stamp)
        if await stillFails(candidate) {
          kept = fewer
          if index >= best.steps.count { break }
        } else {
          op += 1
        }
      }
      index += 1
    }
    return (best, last)
  }
}
