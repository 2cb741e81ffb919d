import ArgumentParser
import Foundation
import Kernel

struct Serve: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(abstract: "Run a node.")

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    var options = options
    if output.json, options.logFormat == nil { options.logFormat = "json" }
    let loaded: LoadedConfiguration
    do {
      loaded = try options.load()
    } catch {
      Arrival.ofThisProcess?.refuse((error as? CommandFailure)?.message ?? "\(error)")
      throw error
    }
    for warning in loaded.warnings { Output.warning("\(warning)") }
    let flags = options.flags
    let environment = ProcessInfo.processInfo.environment
    let workingDirectory = FileManager.default.currentDirectoryPath
    try await KernelHooks.serve(loaded) { proposals in
      try ConfigurationLoader.load(
        flags: flags, environment: environment, workingDirectory: workingDirectory, proposals: proposals)
    }
  }
}
