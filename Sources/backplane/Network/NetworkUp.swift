import ArgumentParser
import ComposeText
import Foundation
import JSONText
import MessageCrypto

extension Network {
  struct Up: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      commandName: "up",
      abstract: "Run the whole network on this machine.",
      discussion: """
        Starts a config server, unless --config-url names one, publishes the manifest there, and starts every node whose \
        private key it has. Nodes that crash are started again; a changed manifest is published. SIGTERM or Ctrl-C ends \
        everything in order, a second one at once. Databases must be running.
        """)

    @OptionGroup var network: NetworkOptions
    @Option(name: .long, help: "Where the config server listens.") var configPort = ComposeFile.configServerPort
    @Option(name: .long, help: ArgumentHelp("Use this config server and start none.", valueName: "url"))
    var configUrl: String?
    @Option(name: .long, help: ArgumentHelp("Where the config server keeps its records.", valueName: "backend-url"))
    var configBackend = "sqlite://"
    @Option(
      name: .long,
      help: ArgumentHelp("The nodes' state, a folder each; else state, beside the manifest.", valueName: "directory"))
    var state: String?
    @Option(
      name: .long, parsing: .singleValue,
      help: ArgumentHelp("A folder to look for plugins in, repeatable.", valueName: "directory"))
    var plugins: [String] = []
    @Option(name: .long, help: "After so many milliseconds a node that was told to end is killed.")
    var stopTimeoutMs = 60_000
    @OptionGroup var output: OutputOptions

    func validate() throws {
      guard (1...65535).contains(configPort) else { throw ValidationError("--config-port must be from 1 to 65535.") }
      guard stopTimeoutMs > 0 else { throw ValidationError("--stop-timeout-ms must be above zero.") }
    }

    func run() async throws {
      let build = try RunnerBuild(self)
      let mailbox = try RunnerMailbox()
      Foundation.Thread.detachNewThread { mailbox.receiveSignals() }
      let settings = build.settings
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        // The children live as long as this thread, and it may block.
        Foundation.Thread.detachNewThread {
          continuation.resume(with: Result { try LocalRunner(settings, mailbox).run() })
        }
      }
    }
  }
}

/// What the local runner is given, made of the command's options and the manifest.
struct RunnerBuild: Sendable {
  private let path: String
  private let keys: String?
  private let configURL: String
  private let configPort: Int
  private let startsConfigServer: Bool
  private let configBackend: String
  private let stopTimeoutMs: Int
  private let state: String
  private let plugins: [String]
  private let executable: String
  private let server: DocumentClient

  init(_ options: Network.Up) throws {
    let working = FileManager.default.currentDirectoryPath
    func absolute(_ path: String) -> String { path.hasPrefix("/") ? path : "\(working)/\(path)" }
    path = absolute(options.network.file)
    keys = options.network.keys.map(absolute)
    startsConfigServer = options.configUrl == nil
    configPort = options.configPort
    configURL = options.configUrl ?? "http://127.0.0.1:\(options.configPort)"
    configBackend = options.configBackend
    stopTimeoutMs = options.stopTimeoutMs
    state = options.state.map(absolute) ?? (path as NSString).deletingLastPathComponent + "/state"
    var executable = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    if executable.hasSuffix(" (deleted)") { executable = String(executable.dropLast(10)) }
    self.executable = executable
    plugins = try Self.plugins(options.plugins.map(absolute), working: working, executable: executable)
    server = DocumentClient(node: try NodeClient(url: configURL, timeoutSeconds: 30))
    // What is wrong is said before anything is started.
    let file = try NetworkFile(path: path, keys: keys)
    for notice in file.notices { Output.warning(notice) }
    _ = try file.operatorKeys()
    _ = try services(file)
    if startsConfigServer, !Self.isFree(configPort) {
      throw CommandFailure(
        .unavailable,
        "something listens on port \(configPort) already. Give the config server another one with --config-port, or use "
          + "what runs there with --config-url.")
    }
  }

  var settings: LocalRunner.Settings {
    LocalRunner.Settings(
      executable: executable, configServer: startsConfigServer ? configServer : nil, manifestFile: path,
      stopTimeoutMs: stopTimeoutMs,
      awaitConfigServer: { [self] in try await waitUntilHealthy() },
      publish: { [self] in try await publish() })
  }

  private static let startTimeoutMs = 60_000

  private func waitUntilHealthy() async throws {
    let deadline = ContinuousClock.now + .milliseconds(Self.startTimeoutMs)
    while true {
      if let response = try? await server.node.send(.GET, "/api/v1/health"), response.status == 200 { return }
      guard ContinuousClock.now < deadline else {
        throw CommandFailure(
          .unavailable, "the config server at \(configURL) is not healthy after \(Self.startTimeoutMs) ms.")
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  private func services(_ file: NetworkFile) throws -> ComposeNetwork {
    try file.services(configServerPort: startsConfigServer ? configPort : 0, usesOwnDatabases: false)
  }

  /// Publishes the manifest as it is now and gives the nodes that are to run.
  private func publish() async throws -> [ServicePlan] {
    let file = try NetworkFile(path: path, keys: keys)
    let services = try services(file)
    let outcomes = try await NetworkPublisher(file: file, server: server).publish()
    for outcome in outcomes where outcome.change != .unchanged {
      LocalRunner.say("\(outcome.node.map { "Configuration of \($0)" } ?? "Manifest") \(outcome.words)")
    }
    if let failed = outcomes.first(where: \.isFailure), case .failed(let message, let status) = failed.change {
      throw CommandFailure(status, message)
    }
    return try services.nodes.compactMap { try plan($0, file) }
  }

  private var configServer: ServicePlan {
    let directory = "\(state)/config-server"
    var environment = ServicePlan.environment(directory: directory, plugins: plugins, port: configPort)
    environment["BACKEND_URL"] = configBackend
    environment["CORS_ORIGIN"] = "*"
    return ServicePlan(
      name: "config-server", port: configPort, directory: directory, environment: environment,
      configuration: Self.configuration(
        name: "config-server",
        extra: "# Accounts: a configuration must be signed by its operator, a status by its node.\n"
          + "slots:\n  schema: { kind: schema, plugin: org.backplane.b3nd }\n"))
  }

  /// Nil, and a line that says so, for a node whose private key is elsewhere.
  private func plan(_ node: ComposeNetwork.Node, _ file: NetworkFile) throws -> ServicePlan? {
    guard let signing = try file.keys.signing(node.serviceName), let pem = try file.keys.pem(node.serviceName) else {
      LocalRunner.say("No private key for node \(node.publicKey) (\(node.name)), skipping")
      return nil
    }
    guard signing.publicKeyHex == node.publicKey.lowercased() else {
      throw CommandFailure(
        .configuration,
        "\(file.keys.path(node.serviceName, .signing)) holds another key than the one that the manifest names for "
          + "\(node.name).")
    }
    let directory = "\(state)/\(node.serviceName)"
    var environment = ServicePlan.environment(directory: directory, plugins: plugins, port: node.port)
    func text(_ secret: SecretBytes) -> String { secret.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } }
    let keys = try file.operatorKeys()
    environment.merge([
      "CORS_ORIGIN": node.corsOrigin, "BACKEND_URL": "memory://", "NODE_ID": node.publicKey,
      "NODE_PRIVATE_KEY_PEM": text(pem), "OPERATOR_KEY": keys.signing.publicKeyHex, "CONFIG_URL": configURL,
    ]) { $1 }
    if node.encryptionPublicKey != nil {
      guard let key = try file.keys.encryptionHex(node.serviceName) else {
        throw CommandFailure(
          .usage,
          "what is for \(node.name) is encrypted, and its private key is not in "
            + "\(file.keys.path(node.serviceName, .encryption)).")
      }
      environment["NODE_ENCRYPTION_PRIVATE_KEY_HEX"] = text(key)
      environment["OPERATOR_ENCRYPTION_PUBLIC_KEY_HEX"] = keys.encryption?.publicKeyHex
    }
    return ServicePlan(
      name: node.name, port: node.port, directory: directory, environment: environment,
      configuration: Self.configuration(name: node.name, extra: ""))
  }

  private static func configuration(name: String, extra: String) -> String {
    var quoted: [UInt8] = []
    // JSON's texts are YAML's.
    JSONWriter.appendString(name, to: &quoted)
    return
      "# Written by backplane network up at every start.\nnode: { name: \(String(decoding: quoted, as: UTF8.self)) }\n"
      + extra
  }

  /// Where a node that is started elsewhere finds the plugins: as told, as in the environment, in this folder, or beside
  /// the program, where an installation has them.
  private static func plugins(_ given: [String], working: String, executable: String) throws -> [String] {
    if !given.isEmpty { return given }
    if let variable = ProcessInfo.processInfo.environment["BACKPLANE_DIRECTORIES_PLUGINS"], !variable.isEmpty {
      return variable.split(separator: ":").map { $0.hasPrefix("/") ? String($0) : "\(working)/\($0)" }
    }
    let places = [working + "/plugins.d", (executable as NSString).deletingLastPathComponent + "/plugins.d"]
    guard let place = places.first(where: { FileManager.default.fileExists(atPath: $0) }) else {
      throw CommandFailure(
        .usage, "there are no plugins in \(places.joined(separator: " or ")). Say where they are with --plugins.")
    }
    return [place]
  }

  private static func isFree(_ port: Int) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return true }
    defer { close(descriptor) }
    var on: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
  }
}
