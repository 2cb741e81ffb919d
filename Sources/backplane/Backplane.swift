import ArgumentParser

/// `backplane`: the node and the tools around it.
@main
struct Backplane: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backplane",
    abstract: "A message node built of plugins that are swapped while it runs.",
    version: "backplane 0.1.0",
    subcommands: [
      Serve.self, Reload.self, Status.self, History.self, Plugin.self, Config.self, Receive.self, Read.self, List.self,
      Delete.self,
    ])

  static func main() async {
    // Off the main actor: `main` is bound to it, and every await of what is not would hop twice.
    await Task.detached { await runToExit() }.value
  }

  private static func runToExit() async -> Never {
    var asksForJSON = false
    do {
      var command = try await asyncParseAsRoot()
      asksForJSON = (command as? any AnswersInJSON)?.output.json ?? false
      if var asynchronous = command as? any AsyncParsableCommand {
        try await asynchronous.run()
      } else {
        try command.run()
      }
      exit(withError: nil)
    } catch let failure as CommandFailure {
      failure.report(json: asksForJSON)
      exit(withError: failure.status.exitCode)
    } catch {
      // ArgumentParser's own: help, version, and what it could not parse, which exits with 64.
      exit(withError: error)
    }
  }
}
