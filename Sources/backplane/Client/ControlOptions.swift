import ArgumentParser
import Foundation
import Kernel

/// Which running node a control command asks.
struct ControlOptions: ParsableArguments {
  @Option(
    name: .long, help: ArgumentHelp("The node's control socket; else where its configuration says.", valueName: "path"))
  var control: String?

  @Option(name: .long, help: ArgumentHelp("Seconds to wait for the answer.", valueName: "seconds"))
  var timeout: Int = 120

  @OptionGroup var configuration: ConfigurationOptions

  func validate() throws {
    guard (1...3600).contains(timeout) else { throw ValidationError("--timeout must be from 1 to 3600 seconds.") }
  }

  func ask(_ command: String, _ members: [String: JSONValue] = [:]) async throws -> JSONValue {
    var request = members
    request["command"] = .string(command)
    return try await ControlClient.ask(.object(request), socket: socket, timeoutSeconds: timeout)
  }

  /// Asks the node; when none runs, looks at its state directory instead.
  func askOrLook(
    _ command: String, _ members: [String: JSONValue] = [:], _ look: (_ stateDirectory: String) throws -> JSONValue
  ) async throws -> JSONValue {
    guard !ControlClient.isServed(socket: socket) else { return try await ask(command, members) }
    return try look(configuration.load().node.directories.state)
  }

  /// Where a service's node listens whose environment, with its RUNTIME_DIRECTORY, is not ours.
  private static let serviceSocket = "/run/backplane/control.sock"

  private var socket: String {
    if let control { return control }
    let configured = ConfigurationLoader.controlSocket(
      flags: configuration.flags, environment: ProcessInfo.processInfo.environment,
      workingDirectory: FileManager.default.currentDirectoryPath)
    let files = FileManager.default
    if !files.fileExists(atPath: configured), files.fileExists(atPath: Self.serviceSocket) { return Self.serviceSocket }
    return configured
  }
}
