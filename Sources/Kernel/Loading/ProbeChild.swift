import BackplaneABI
import Foundation
import SystemShims

/// The child's side of a probe: load, create, configure, self-test, leave. Never `start`.
public enum ProbeChild {
  /// The first argument that makes the executable a probe.
  public static let argument = "__probe"

  /// Runs the probe and ends the process.
  public static func main() -> Never {
    guard let entry = ChildEntry(cpuSecondsMax: 30, descriptorsMax: 256),
      let request = try? JSONDecoder().decode(ProbeRequest.self, from: Data(entry.input))
    else { exit(64) }
    // Whoever is served meanwhile comes first: a probe is bounded in time, not hurried.
    setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 5)
    let outcome = Probe(entry: entry, request: request).run()
    send(ProbeEvent(began: nil, ended: outcome), to: entry)
    entry.end()
  }

  fileprivate static func send(_ event: ProbeEvent, to entry: ChildEntry) {
    if let data = try? JSONEncoder().encode(event) { entry.send(Array(data)) }
  }
}

private struct Probe {
  let entry: ChildEntry
  let request: ProbeRequest

  func run() -> ProbeEvent.Outcome {
    begin("load")
    let image: Image
    do throws(Refusal) {
      let plugin = try Verify.ofStaged(path: request.stagedPath, sourcePath: request.sourcePath)
      image = try ImageStore.map(plugin)
    } catch {
      return ProbeEvent.Outcome(
        isAccepted: false, step: "load", refusalCode: error.code, sentence: error.sentence)
    }
    let kernel = KernelContext(
      log: KernelLog(NodeConfiguration.Log(level: .warning, format: .text)),
      repairs: RepairRegistry(directory: "/nonexistent"))
    let kind = SlotConfiguration.Kind(rawValue: request.configuration?.kind ?? image.manifest.kinds.first ?? "")
    if let configuration = request.configuration {
      let outcome = instance(
        image, kernel, kind, configuration.slot, configuration.json, BP_PURPOSE_CHECK, stateDirectory: "", test: false)
      if !outcome.isAccepted { return outcome }
    }
    guard request.runsSelfTest else { return ProbeEvent.Outcome(isAccepted: true, step: "done") }
    return instance(
      image, kernel, kind, "self-test", "{}", BP_PURPOSE_TEST, stateDirectory: request.scratchDirectory, test: true)
  }

  private func begin(_ step: String) { ProbeChild.send(ProbeEvent(began: step, ended: nil), to: entry) }

  /// One throwaway instance.
  private func instance(
    _ image: Image, _ kernel: KernelContext, _ kind: SlotConfiguration.Kind?, _ slot: String, _ json: String,
    _ purpose: UInt32, stateDirectory: String, test: Bool
  ) -> ProbeEvent.Outcome {
    let diagnostics = Diagnostics()
    func refused(_ step: String, _ code: String) -> ProbeEvent.Outcome {
      ProbeEvent.Outcome(
        isAccepted: false, step: step, refusalCode: code, sentence: nil, problems: diagnostics.problems)
    }
    let configuration = SlotConfiguration.probing(slot: slot, kind: kind ?? .backend, json: json)
    guard
      let instance = InstanceRegistry.shared.register({
        Instance(handle: $0, slot: configuration, image: image, kernel: kernel, listeners: [:])
      })
    else { return refused("create", Refusal.Code.createFailed) }
    begin("create")
    guard
      let plugin = diagnostics.with({ image.entry.pointee.create(HostTable.pointer, instance.handle, $0) })
    else { return refused("create", Refusal.Code.createFailed) }
    instance.adopt(plugin)
    defer {
      begin("destroy")
      plugin.pointee.destroy(instance.pointer)
    }
    begin(test ? "configure for the self-test" : "configure")
    let code = LifeCycle.configure(instance, purpose: purpose, stateDirectory: stateDirectory, diagnostics)
    guard code == BP_OK else {
      // A plugin that cannot do without configuration cannot be self-tested; that is no fault of it.
      if test { return ProbeEvent.Outcome(isAccepted: true, step: "done", problems: diagnostics.problems) }
      return refused("configure", Refusal.Code.configurationRefused)
    }
    instance.state = .configured
    if kind != nil, let missing = instance.bindKinds() {
      diagnostics.add("the plugin says it is a \(configuration.kind.rawValue) but its extension() has no \(missing)")
      return refused("create", Refusal.Code.kindMissing)
    }
    guard test else { return ProbeEvent.Outcome(isAccepted: true, step: "done", problems: diagnostics.problems) }
    let id: StaticString = "backplane.self_test/1"
    let view = bp_view(data: id.utf8Start, size: UInt64(id.utf8CodeUnitCount))
    guard
      let table = plugin.pointee.extension(instance.pointer, view)?.assumingMemoryBound(to: bp_self_test.self)
    else { return ProbeEvent.Outcome(isAccepted: true, step: "done") }
    begin("self-test")
    var directory = stateDirectory
    let result = directory.withUTF8 { bytes in
      diagnostics.with {
        table.pointee.run(
          instance.pointer, bp_view(bytes), Clock.monotonicNs() + UInt64(request.timeoutMs) * 1_000_000, $0)
      }
    }
    guard result == BP_OK else { return refused("self-test", Refusal.Code.selfTestFailed) }
    return ProbeEvent.Outcome(isAccepted: true, step: "done")
  }
}

/// Collects what a life-cycle function reports.
final class Diagnostics: @unchecked Sendable {
  // @unchecked: `add` runs on the thread of the function that was given the report, which its caller waits for; an
  // abandoned function may still add, so the list is under a lock.
  private let list = NSLock()
  private var entries: [ProbeEvent.Problem] = []

  var problems: [ProbeEvent.Problem] {
    list.lock()
    defer { list.unlock() }
    return entries
  }

  func add(_ message: String, pointer: String = "", isError: Bool = true) {
    list.lock()
    defer { list.unlock() }
    guard entries.count < 100 else { return }
    entries.append(
      ProbeEvent.Problem(pointer: pointer, message: Redaction.redact(Wording.printable(message)), isError: isError))
  }

  /// Calls `body` with a report that collects here.
  func with<R>(_ body: (UnsafePointer<bp_report>) -> R) -> R {
    var report = bp_report(
      context: Unmanaged.passUnretained(self).toOpaque(),
      add: { context, diagnostic in
        let diagnostic = diagnostic!.pointee
        Unmanaged<Diagnostics>.fromOpaque(context!).takeUnretainedValue().add(
          diagnostic.message.text, pointer: diagnostic.pointer.text,
          isError: diagnostic.severity == BP_SEVERITY_ERROR)
      })
    return body(&report)
  }

  /// The errors as one text: `/pool/size: must be at least 1; …`.
  var text: String {
    let errors = problems.filter(\.isError)
    return errors.map { $0.pointer.isEmpty ? $0.message : "\($0.pointer): \($0.message)" }.joined(separator: "; ")
  }
}
