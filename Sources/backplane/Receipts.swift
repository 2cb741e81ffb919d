/// Tells of a reload's receipt in sentences. Reads what is there and passes over what is not, so that an older command
/// can tell of a newer node's receipts.
struct ReceiptText {
  let receipt: JSONValue

  /// The outcomes a receipt may have.
  enum Outcome: String {
    case applied, unchanged, refused, partly
    case rolledBack = "rolled back"
  }

  var outcome: Outcome? { receipt["outcome"]?.string.flatMap(Outcome.init(rawValue:)) }

  /// Exit with nothing wrong, with the configuration, or with a plugin that was refused.
  var failureStatus: ExitStatus? {
    switch outcome {
    case .applied?, .unchanged?, .rolledBack?: nil
    case .refused?, .partly?:
      refusals.contains { $0["code"]?.string == "configuration" } ? .configuration : .unavailable
    case nil: .internal
    }
  }

  private var refusals: [JSONValue] { receipt["refusals"]?.array ?? [] }

  /// Prints the receipt of an answer, and exits with its outcome.
  static func tell(_ answer: JSONValue, _ output: OutputOptions) throws {
    guard let receipt = answer["receipt"] else {
      throw CommandFailure(.internal, "the node's answer has no receipt.")
    }
    let text = ReceiptText(receipt: receipt)
    if output.json { Output.line(receipt.text) } else { text.sentences.forEach(Output.line) }
    if let status = text.failureStatus { throw CommandFailure.answered(status) }
  }

  /// The whole receipt, a sentence a line.
  var sentences: [String] {
    var lines = [headline]
    for rollback in receipt["rollbacks"]?.array ?? [] { lines.append("  " + sentence(forRollback: rollback)) }
    for change in receipt["changes"]?.array ?? [] { lines.append("  " + sentence(for: change)) }
    for refusal in refusals { lines.append("  " + sentence(forRefusal: refusal)) }
    for note in receipt["notes"]?.array ?? [] { lines.append("  Note: \(note.cell)") }
    return lines.map(Output.printable)
  }

  var headline: String {
    if let upgrade = upgradeHeadline { return upgrade }
    let number = receipt["id"].map { " \($0.cell)" } ?? ""
    let trigger = receipt["trigger"]?.string.map { ", asked for by \($0)," } ?? ""
    let time = receipt["duration_ms"].map { " It took \($0.cell) ms." } ?? ""
    let generation = receipt["generation"]?.cell ?? "?"
    switch outcome {
    case .applied?: return "Reload\(number)\(trigger) made generation \(generation).\(time)"
    case .unchanged?:
      return "Reload\(number)\(trigger) found nothing changed; generation \(generation) goes on serving.\(time)"
    case .refused?: return "Reload\(number)\(trigger) was refused; generation \(generation) goes on serving.\(time)"
    case .partly?:
      return "Reload\(number)\(trigger) made generation \(generation), but not all of it was taken.\(time)"
    case .rolledBack?:
      return "Reload\(number)\(trigger) went back to what served before, as generation \(generation).\(time)"
    case nil: return "Reload\(number)\(trigger) ended in a way this program does not know: \(receipt.text)"
    }
  }

  /// Of an upgrade of the kernel.
  private var upgradeHeadline: String? {
    guard let trigger = receipt["trigger"]?.string, ["upgrade", "limits.retained_images_max"].contains(trigger) else {
      return nil
    }
    let number = receipt["id"].map { " \($0.cell)" } ?? ""
    let time = receipt["duration_ms"].map { " It took \($0.cell) ms." } ?? ""
    return outcome == .refused
      ? "Upgrade\(number) was refused; the process that served serves on.\(time)"
      : "Upgrade\(number): a new process serves, with generation \(receipt["generation"]?.cell ?? "?").\(time)"
  }

  private func sentence(for change: JSONValue) -> String {
    let slot = change["slot"]?.cell ?? "?"
    if slot.isEmpty || slot == "-" {
      return "The kernel is \(change["version"]?.cell ?? "?") in place of \(change["previous_version"]?.cell ?? "?")."
    }
    let plugin = [change["plugin"]?.string, change["version"]?.string].compactMap(\.self).joined(separator: " ")
    let reason = change["reason"]?.string.map { " (\($0))" } ?? ""
    let state = change["state"]?.string.map { " State: \($0)." } ?? ""
    switch change["action"]?.string {
    case "added": return "Slot \(slot) was added with \(plugin)\(reason)."
    case "removed": return "Slot \(slot) was removed\(reason)."
    case "replaced":
      let before = change["previous_version"]?.string.map { " in place of \($0)" } ?? ""
      return "Slot \(slot) now runs \(plugin)\(before)\(reason).\(state)"
    case let action: return "Slot \(slot): \(action ?? "changed") \(plugin)\(reason)."
    }
  }

  private func sentence(forRollback rollback: JSONValue) -> String {
    let slot = rollback["slot"]?.cell ?? "?"
    let version = rollback["rolled_back_version"]?.string ?? "what had replaced it"
    return "Rolled back slot \(slot) from version \(version): \(rollback["reason"]?.string ?? "no reason was given")."
  }

  private func sentence(forRefusal refusal: JSONValue) -> String {
    let subject = refusal["file"]?.string ?? refusal["slot"]?.string.map { "slot \($0)" } ?? "something"
    let stage = refusal["stage"]?.string.map { " at \($0)" } ?? ""
    return "Refused \(subject)\(stage): \(refusal["message"]?.string ?? "no reason was given.")"
  }
}
