/// Sentences about slots: what was wrong, where it was written, what to do.
enum SlotRefusals {
  /// What a plugin's `configure`, `create` or self-test reported.
  static func refused(
    step: String, code: String, problems: [ProbeEvent.Problem], _ plugin: VerifiedPlugin, _ slot: SlotConfiguration?,
    phase: Refusal.Phase
  ) -> Refusal {
    let shown = Wording.printable(plugin.sourcePath)
    let errors = problems.filter(\.isError)
    let text = errors.map { describe($0, slot) }.joined(separator: "; ")
    let reason = text.isEmpty ? "without saying why" : text
    let place = slot.map { "slot '\($0.name)'" } ?? "the plugin"
    let sentence =
      switch step {
      case "configure":
        "\(shown): the configuration of \(place) was refused: \(reason)"
      case "self-test":
        "\(shown): its self-test failed: \(reason); the file does not work on this machine"
      default:
        "\(shown): it refused in \(step): \(reason)"
      }
    return Refusal(file: plugin.sourcePath, phase: phase, code: code, sentence: sentence)
  }

  /// `port (/port, file backplane.yaml:7): must be at most 65535`.
  private static func describe(_ problem: ProbeEvent.Problem, _ slot: SlotConfiguration?) -> String {
    guard !problem.pointer.isEmpty else { return problem.message }
    let origin = slot?.origin(at: problem.pointer).map { ", \($0)" } ?? ""
    return "\(JSONPointer.dotted(problem.pointer)) (\(problem.pointer)\(origin)): \(problem.message)"
  }

  static func missing(_ slot: SlotConfiguration, _ known: PluginCatalog) -> Refusal {
    let wanted =
      if let path = slot.pluginPath {
        "the file \(Wording.printable(path))"
      } else if let id = slot.plugin {
        "a plugin with the id '\(id)'"
      } else {
        "a plugin for '\(slot.scheme ?? "")://'"
      }
    // A file that would have been the one may have been refused: then that is the reason to give.
    if let refusal = known.refusals.first(where: { $0.file == slot.pluginPath }) { return refusal }
    let hint =
      known.refusals.isEmpty
      ? "" : "; refused there: \(known.refusals.prefix(3).map(\.sentence).joined(separator: " | "))"
    let installed = known.plugins.map(\.manifest.id).sorted().joined(separator: ", ")
    return Refusal(
      file: slot.pluginPath ?? "", phase: .seen, code: Refusal.Code.pluginMissing,
      sentence: "slot '\(slot.name)' wants \(wanted), and there is none in \(known.directories.joined(separator: ", "))"
        + " (installed: \(installed.isEmpty ? "none" : installed)); drop its .so there or change the slot\(hint)")
  }

  static func wrongKind(_ slot: SlotConfiguration, _ plugin: VerifiedPlugin) -> Refusal {
    Refusal(
      file: plugin.sourcePath, phase: .verified, code: Refusal.Code.kindDiffers,
      sentence: "\(Wording.printable(plugin.sourcePath)): slot '\(slot.name)' is a \(slot.kind.rawValue), the plugin "
        + "serves \(plugin.manifest.kinds.joined(separator: ", ")); change the slot's kind or its plugin")
  }

  static func wouldLoseState(_ instance: Instance, removing: Bool) -> Refusal {
    Refusal(
      file: instance.image.sourcePath, phase: .started, code: Refusal.Code.wouldLoseState,
      sentence: "slot '\(instance.slot.name)': \(instance.image.id) keeps its records in memory only, and "
        + "\(removing ? "removing" : "replacing") it would lose them; run `backplane reload --lose-state` if that is meant"
    )
  }

  static func timedOut(_ step: String, _ plugin: VerifiedPlugin, _ slot: SlotConfiguration, _ timeoutMs: Int) -> Refusal
  {
    Refusal(
      file: plugin.sourcePath, phase: .started, code: Refusal.Code.startTimedOut,
      sentence: "\(Wording.printable(plugin.sourcePath)): \(step) of slot '\(slot.name)' had not come back after "
        + "\(timeoutMs) ms (reload.start_timeout_ms); the instance was abandoned")
  }

  static func startFailed(
    _ step: String, _ text: String, _ plugin: VerifiedPlugin, _ slot: SlotConfiguration
  ) -> Refusal {
    Refusal(
      file: plugin.sourcePath, phase: .started, code: Refusal.Code.startFailed,
      sentence: "\(Wording.printable(plugin.sourcePath)): \(step) of slot '\(slot.name)' failed: "
        + "\(text.isEmpty ? "without saying why" : text)")
  }

  static func reloadTimedOut(_ build: SlotBuild, _ node: NodeConfiguration) -> Refusal {
    Refusal(
      file: build.plugin.sourcePath, phase: .started, code: Refusal.Code.reloadTimedOut,
      sentence: "slot '\(build.slot.name)': the reload had taken \(node.limits.reloadTimeoutMs) ms "
        + "(limits.reload_timeout_ms) before its turn came; try again")
  }

  static func stateRefused(_ build: SlotBuild, _ reason: String) -> Refusal {
    Refusal(
      file: build.plugin.sourcePath, phase: .started, code: Refusal.Code.stateRefused,
      sentence: "slot '\(build.slot.name)': the state of the instance that serves could not be handed over: "
        + "\(Wording.printable(Redaction.redact(reason), lengthMax: 500)); `backplane reload --lose-state` begins without it"
    )
  }

  static func held(_ build: SlotBuild, _ leases: Int, _ node: NodeConfiguration) -> Refusal {
    Refusal(
      file: build.plugin.sourcePath, phase: .started, code: Refusal.Code.slotHeld,
      sentence:
        "slot '\(build.slot.name)': it must stop before its successor starts, and \(leases) requests still held "
        + "it after \(node.reload.handoverTimeoutMs) ms (reload.handover_timeout_ms); `backplane generations` says which"
    )
  }

  static func tooManyGenerations() -> Refusal {
    Refusal(
      file: "", phase: .started, code: Refusal.Code.tooManyImages,
      sentence: "\(GenerationRing.capacity) superseded generations are still held by requests; `backplane generations` "
        + "says by which")
  }

  static func conflict(_ what: String, _ first: Instance, _ second: Instance) -> Refusal {
    Refusal(
      file: second.image.sourcePath, phase: .started, code: Refusal.Code.programConflict,
      sentence:
        "slots '\(first.slot.name)' (\(first.image.id)) and '\(second.slot.name)' (\(second.image.id)) both claim "
        + "\(what); remove one of the slots, or configure one of them to leave it")
  }

  static func nothingToRollBackTo(_ name: String) -> Refusal {
    Refusal(
      file: "", phase: .started, code: Refusal.Code.rollbackImpossible,
      sentence:
        "slot '\(Wording.printable(name, lengthMax: 64))' has not been replaced since the node started, so there "
        + "is nothing to go back to")
  }

  static func rollbackImpossible(_ current: Instance, _ target: Trials.Target, _ reason: String) -> Refusal {
    Refusal(
      file: current.image.sourcePath, phase: .started, code: Refusal.Code.rollbackImpossible,
      sentence:
        "slot '\(current.slot.name)': version \(target.plugin.manifest.version) cannot take over again: \(reason); "
        + "version \(current.image.version) goes on")
  }

  static func rolledBack(_ candidate: Instance, _ reason: String) -> Refusal {
    Refusal(
      file: candidate.image.sourcePath, phase: .started, code: Refusal.Code.rolledBack,
      sentence:
        "\(Wording.printable(candidate.image.sourcePath)): version \(candidate.image.version) was rolled back in "
        + "slot '\(candidate.slot.name)' (\(reason)) and is not tried again until its file or its configuration changes; "
        + "`backplane reload --retry` tries it all the same")
  }
}
