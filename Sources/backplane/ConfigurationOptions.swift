import ArgumentParser
import Foundation
import Kernel

/// The flags that are the last layer of the configuration.
struct ConfigurationOptions: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("The configuration file (BACKPLANE_CONFIG).", valueName: "file"))
  var config: String?

  @Option(name: .long, help: ArgumentHelp("The port to listen on (PORT).", valueName: "number"))
  var port: String?

  @Option(
    name: .long, parsing: .singleValue,
    help: ArgumentHelp("A backend's URL, repeatable: exactly these, in this order (BACKEND_URL).", valueName: "url"))
  var backend: [String] = []

  @Option(name: .long, help: ArgumentHelp("The allowed origin, or * (CORS_ORIGIN).", valueName: "origin"))
  var corsOrigin: String?

  @Option(
    name: .long, help: ArgumentHelp("The file of a schema plugin, or of rules (SCHEMA_MODULE).", valueName: "file"))
  var schema: String?

  @Option(
    name: .long, help: ArgumentHelp("Where the node's configuration is: managed mode (CONFIG_URL).", valueName: "url"))
  var configURL: String?

  @Option(
    name: .long, parsing: .singleValue,
    help: ArgumentHelp("A folder to look for plugins in, repeatable.", valueName: "directory"))
  var plugins: [String] = []

  @Option(name: .long, help: ArgumentHelp("What must survive a restart (STATE_DIRECTORY).", valueName: "directory"))
  var state: String?

  @Option(name: .long, help: ArgumentHelp("Holds the control socket (RUNTIME_DIRECTORY).", valueName: "directory"))
  var runtime: String?

  @Option(name: .long, help: ArgumentHelp("trace, debug, info, notice, warning or error.", valueName: "level"))
  var logLevel: String?

  @Option(name: .long, help: ArgumentHelp("auto, text, json or logfmt.", valueName: "format"))
  var logFormat: String?

  @Option(
    name: .long, parsing: .singleValue,
    help: ArgumentHelp("Any setting, repeatable; see docs/configuration.md.", valueName: "key=value"))
  var set: [String] = []

  var flags: ConfigurationFlags {
    var flags = ConfigurationFlags()
    flags.config = config
    flags.port = port
    flags.backendURLs = backend
    flags.corsOrigin = corsOrigin
    flags.schemaModule = schema
    flags.configURL = configURL
    flags.pluginDirectories = plugins
    flags.stateDirectory = state
    flags.runtimeDirectory = runtime
    flags.logLevel = logLevel
    flags.logFormat = logFormat
    flags.settings = set
    return flags
  }

  func load() throws -> LoadedConfiguration {
    do throws(ConfigurationError) {
      return try ConfigurationLoader.load(
        flags: flags, environment: ProcessInfo.processInfo.environment,
        workingDirectory: FileManager.default.currentDirectoryPath)
    } catch { throw CommandFailure(error) }
  }
}
