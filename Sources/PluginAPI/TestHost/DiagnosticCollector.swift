import PluginAPI
import Synchronization

/// What a life-cycle function adds to its report.
final class DiagnosticCollector: Sendable {
  private let core: HostCore
  private let added = Mutex<[Diagnostic]>([])

  init(_ core: HostCore) { self.core = core }

  var diagnostics: [Diagnostic] { added.withLock { $0 } }

  func withReport<R>(_ body: (UnsafePointer<bp_report>) -> R) -> R {
    var report = bp_report(
      context: Unmanaged.passUnretained(self).toOpaque(),
      add: { context, diagnostic in
        Unmanaged<DiagnosticCollector>.fromOpaque(context!).takeUnretainedValue().add(diagnostic!.pointee)
      })
    return withExtendedLifetime(self) { body(&report) }
  }

  private func add(_ raw: bp_diagnostic) {
    let diagnostic = Diagnostic(
      severity: Diagnostic.Severity(rawValue: raw.severity) ?? .error,
      pointer: core.text(raw.pointer, "a diagnostic's pointer"), message: core.text(raw.message, "a diagnostic"))
    added.withLock { $0.append(diagnostic) }
  }

  /// Throws when the step failed.
  func check(_ step: String, _ code: bp_code) throws(TestHostError) {
    guard code != BP_OK else { return }
    if !diagnostics.contains(where: { $0.severity == .error }) {
      core.violate(.failedWithoutDiagnostic, "\(step) answered code \(code) and added no error to its report")
    }
    throw TestHostError(step: step, code: code, diagnostics: diagnostics)
  }
}
