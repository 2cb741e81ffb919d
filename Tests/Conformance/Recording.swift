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
  private let observe: @Sendable (ConformanceProgress) -> Void

  init(seed: UInt64, _ observe: @escaping @Sendable (ConformanceProgress) -> Void) {
    state = Mutex(State(report: ConformanceReport(seed: seed)))
    self.observe = observe
  }

  var report: ConformanceReport { state.withLock { $0.report } }

  /// Runs one check: it passes with what `body` returns as a remark, and fails with what it throws.
  @discardableResult
  func check(_ name: String, _ body: () async throws -> String) async -> Bool {
    state.withLock { $0.current = name }
    observe(.began(name))
    let check: Check
    do {
      check = Check(name: name, passed: true, detail: try await body())
    } catch let failure as Failure {
      check = Check(name: name, passed: false, detail: "it failed with code \(failure.code): \(failure.message)")
    } catch {
      check = Check(name: name, passed: false, detail: "\(error)")
    }
    state.withLock { $0.report.checks.append(check) }
    observe(.ended(check))
    return check.passed
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
