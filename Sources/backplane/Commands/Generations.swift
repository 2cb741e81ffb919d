import ArgumentParser

struct Generations: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Print who holds which generation of the running node.",
    discussion:
      "A generation that was superseded goes when its last request has ended. Each line below it is a request that it "
      + "waits for: what was asked, for how long, and the plugin that has it now.")

  @OptionGroup var options: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let answer = try await options.ask("generations")
    if output.json { return Output.line(answer.text) }
    for generation in answer["generations"]?.array ?? [] {
      let leases = generation["leases"]?.integer ?? 0
      Output.line(
        "Generation \(generation["number"]?.cell ?? "?"), \(generation["state"]?.cell ?? "?"), "
          + "\(Self.seconds(generation["age_ms"])), held by \(leases) \(leases == 1 ? "request" : "requests").")
      for lease in generation["held"]?.array ?? [] { Output.line(Output.printable("  " + Self.text(lease))) }
      if let more = generation["not_shown"]?.integer, more > 0 { Output.line("  and \(more) more.") }
    }
    for wedged in answer["wedged"]?.array ?? [] {
      Output.line(
        Output.printable(
          "Wedged: slot \(wedged["slot"]?.cell ?? "?"), \(wedged["plugin"]?.cell ?? "?") "
            + "\(wedged["version"]?.cell ?? "?"), in \(wedged["call"]?.cell ?? "?") for \(Self.seconds(wedged["age_ms"]))."
        ))
    }
  }

  private static func text(_ lease: JSONValue) -> String {
    func member(_ name: String) -> String { lease[name]?.string ?? "" }
    var text = "\(member("request")), \(seconds(lease["age_ms"]))"
    if lease["answered"] == .bool(true) { text += ", answered" }
    if !member("slot").isEmpty {
      text += ", in \(member("call")) of slot \(member("slot")) (\(member("plugin")) \(member("version")))"
    }
    if !member("peer").isEmpty { text += ", for \(member("peer"))" }
    if !member("trace").isEmpty { text += ", trace \(member("trace"))" }
    return text
  }

  private static func seconds(_ milliseconds: JSONValue?) -> String {
    let value = milliseconds?.integer ?? 0
    return value < 1000 ? "\(value) ms" : "\(value / 1000).\(value % 1000 / 100) s"
  }
}
