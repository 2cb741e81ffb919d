import PluginAPI
import PluginTestHost
import Synchronization

/// Collects what the checks find, and tells whoever watches.
final class Recording: Sendable {
  private struct State {
    var report: ConformanceReport
    var current = ""
    /// The first breach of each sort, with the check it was in, and how many there were.
    var breaches: [String: (first: String, count: Int)] = [:]
  }

  private let state: Mutex<State>
  private let only: [String]
  private let observe: @Sendable (ConformanceProgress) -> Void

  init(seed: UInt64, only: [String], _ observe: @escaping @Sendable (ConformanceProgress) -> Void) {
    state = Mutex(State(report: ConformanceReport(seed: seed)))
    self.only = only
    self.observe = observe
  }

  private func isWanted(_ name: String) -> Bool {
    only.isEmpty || only.contains { name == $0 || name.hasPrefix($0 + ".") }
  }

  var report: ConformanceReport { state.withLock { $0.report } }

  /// Runs one check: it passes with what `body` returns as a remark, and fails with what it throws. One that is not
  /// wanted passes and is not mentioned.
  @discardableResult
  func check(_ name: String, _ body: () async throws -> String) async -> Bool {
    guard isWanted(name) else { return true }
    state.withLock { $0.current = name }
    observe(.began(name))
    let start = ContinuousClock.now
    var check: Check
    do {
      check = Check(name: name, passed: true, detail: try await body())
    } catch let failure as Failure {
      check = Check(name: name, passed: false, detail: "it failed with code \(failure.code): \(failure.message)")
    } catch {
      check = Check(name: name, passed: false, detail: "\(error)")
    }
    check.takenMs = Int((ContinuousClock.now - start) / .milliseconds(1))
    let ended = check
    state.withLock { $0.report.checks.append(ended) }
    observe(.ended(ended))
    return ended.passed
  }

  func add(_ capability: Capability) {
    state.withLock { $0.report.capabilities.append(capability) }
    observe(.capability(capability))
  }

  func add(_ violations: [Violation]) {
    state.withLock { state in
      for violation in violations {
        let first = "\(violation) (in \(state.current))"
        state.breaches[violation.kind.rawValue, default: (first, 0)].count += 1
      }
    }
  }

  /// Takes what was collected since the last call.
  func takeBreaches() -> [String] {
    let breaches = state.withLock { state in
      defer { state.breaches = [:] }
      return state.breaches
    }
    return breaches.sorted { $0.key < $1.key }.map {
      $0.value.first + ($0.value.count > 1 ? " x\($0.value.count)" : "")
    }
  }
}
