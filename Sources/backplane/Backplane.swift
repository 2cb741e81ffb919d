import ArgumentParser
import Glibc
import Kernel

@main
enum EntryPoint {
  /// Synchronous, so that nothing of Swift's has started a thread when the signals are blocked.
  static func main() {
    // A probe is this executable too; it must not pay for parsing a command line.
    if CommandLine.arguments.dropFirst().first == ProbeChild.argument { ProbeChild.main() }
    if CommandLine.arguments.dropFirst().first == Shepherd.argument { Shepherd.main() }
    if CommandLine.arguments.dropFirst().first == PluginCheckChild.argument { PluginCheckChild.main() }
    if CommandLine.arguments.dropFirst().first == Leash.argument { Leash.main() }
    if CommandLine.arguments.dropFirst().prefix(2) == ["network", "up"] { ProcessSetup.block() }
    if CommandLine.arguments.contains("serve") {
      ProcessOrigin.remember()
      ProcessSetup.block()
      ProcessSetup.raiseDescriptorLimit()
    }
    // Off the main actor: every await of what is not bound to it would hop twice.
    Task.detached { await Backplane.runToExit() }
    // Not dispatchMain: it unblocks every signal on this thread. Nothing here needs the main actor.
    while true { sleep(.max) }
  }
}

/// `backplane`: the node and the tools around it.
struct Backplane: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backplane",
    abstract: "A message node built of plugins that are swapped while it runs.",
    discussion: "`backplane --version` prints the version.",
    subcommands: [
      Serve.self, Reload.self, Rollback.self, Upgrade.self, Status.self, History.self, Backend.self, Generations.self,
      QuarantineCommand.self, Plugin.self, Schema.self, Config.self, Update.self, NodeCommand.self, Network.self,
      Health.self, Receive.self, Read.self, List.self, Delete.self, Send.self, Keys.self, Sign.self, Verify.self,
      Encrypt.self, Decrypt.self,
    ])

  fileprivate static func runToExit() async -> Never {
    var asksForJSON = false
    // Not the parser's own: it would take `update publish … --version 2` for the question, print the version and exit
    // with 0, as soon as anything else among the arguments is wrong.
    if Array(CommandLine.arguments.dropFirst()) == ["--version"] {
      Output.line("backplane \(BackplaneVersion.current)")
      exit(withError: nil)
    }
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
