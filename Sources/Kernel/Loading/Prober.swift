import Foundation
import Synchronization

/// Probes plugins in children, and remembers the verdicts.
final class Prober: Sendable {
  /// The executable that knows `ProbeChild.argument`.
  let executable: String
  private let scratchParent: String
  private let verdictDirectory: String
  /// Changes with every build of the kernel: a verdict is of a kernel too.
  private let kernelBuild: String

  /// - Parameters:
  ///   - stateDirectory: where verdicts are kept over restarts; they hold hashes only.
  init(executable: String, stateDirectory: String, scratchParent: String) {
    self.executable = executable
    self.scratchParent = scratchParent
    verdictDirectory = stateDirectory + "/probed"
    var facts = stat()
    stat(executable, &facts)
    kernelBuild = "\(facts.st_size)-\(facts.st_mtim.tv_sec)-\(facts.st_mtim.tv_nsec)"
  }

  /// Accepts or throws one sentence. Blocks until the child has ended, at most `timeoutMs`.
  func probe(
    _ plugin: VerifiedPlugin, _ configuration: SlotConfiguration?, timeoutMs: Int, runsSelfTest: Bool = true
  ) throws(Refusal) {
    let verdict = verdictName(plugin, configuration)
    if access("\(verdictDirectory)/\(verdict)", F_OK) == 0 { return }
    let shown = Wording.printable(plugin.sourcePath)
    func refuse(_ code: String, _ sentence: String) -> Refusal {
      Refusal(file: plugin.sourcePath, phase: .probed, code: code, sentence: "\(shown): \(sentence)")
    }
    let scratch = "\(scratchParent)/probe-\(UUID().uuidString)"
    mkdir(scratchParent, 0o700)
    guard mkdir(scratch, 0o700) == 0 else {
      throw refuse(
        Refusal.Code.probeFailed,
        "it cannot be probed, because \(scratch) cannot be made (\(String(cString: strerror(errno)))); make the "
          + "state directory writable")
    }
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    let request = ProbeRequest(
      stagedPath: plugin.stagedPath, sourcePath: plugin.sourcePath,
      configuration: configuration.map { .init(slot: $0.name, kind: $0.kind.rawValue, json: $0.json) },
      scratchDirectory: scratch, runsSelfTest: runsSelfTest, timeoutMs: timeoutMs)
    let input = (try? JSONEncoder().encode(request)).map(Array.init) ?? []
    let child: Child
    switch ChildSpawner.shared.spawn(executable, [ProbeChild.argument, "\(getpid())"]) {
    case .success(let started): child = started
    case .failure(let failure):
      throw refuse(Refusal.Code.probeFailed, "it cannot be probed: \(failure.sentence)")
    }
    let ending = child.run(input, untilNs: Clock.monotonicNs() + UInt64(timeoutMs) * 1_000_000)
    let events = ending.output.split(separator: 0x0a).compactMap {
      try? JSONDecoder().decode(ProbeEvent.self, from: Data($0))
    }
    let step = events.last(where: { $0.began != nil })?.began ?? "start"
    guard let outcome = events.last?.ended, !ending.isTimedOut else {
      if ending.isTimedOut {
        throw refuse(
          Refusal.Code.probeTimedOut,
          "it was still in \(step) after \(timeoutMs) ms (reload.probe_timeout_ms); the probe was ended")
      }
      throw refuse(
        Refusal.Code.probeCrashed,
        "it crashed in \(step) (\(ending.cause))\(Prober.tail(ending.errors)); mend it and drop it in again")
    }
    if outcome.isAccepted {
      remember(verdict)
      return
    }
    throw refusal(outcome, plugin, configuration)
  }

  private func refusal(_ outcome: ProbeEvent.Outcome, _ plugin: VerifiedPlugin, _ slot: SlotConfiguration?) -> Refusal {
    if let sentence = outcome.sentence {
      return Refusal(
        file: plugin.sourcePath, phase: .probed, code: outcome.refusalCode ?? Refusal.Code.probeFailed,
        sentence: sentence)
    }
    return SlotRefusals.refused(
      step: outcome.step, code: outcome.refusalCode ?? Refusal.Code.probeFailed, problems: outcome.problems, plugin,
      slot, phase: outcome.step == "configure" ? .configured : .probed)
  }

  /// The last line it wrote to its standard error.
  private static func tail(_ errors: [UInt8]) -> String {
    guard let line = String(decoding: errors, as: UTF8.self).split(whereSeparator: \.isNewline).last else { return "" }
    return "; its last words: \(Wording.printable(String(line.prefix(300))))"
  }

  private func verdictName(_ plugin: VerifiedPlugin, _ configuration: SlotConfiguration?) -> String {
    var hash = SHA256()
    for text in [plugin.contentHash, configuration.map { $0.kind.rawValue + $0.json } ?? "", kernelBuild] {
      var copy = text
      copy.withUTF8 { hash.update(UnsafeRawBufferPointer($0)) }
    }
    return hash.finishHexadecimal()
  }

  private func remember(_ verdict: String) {
    mkdir(verdictDirectory, 0o700)
    let descriptor = open("\(verdictDirectory)/\(verdict)", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    if descriptor >= 0 { close(descriptor) }
  }
}
