import Foundation
import NodeTesting

/// A node whose records are another's.
struct TwoNodes {
  let remote: NodeProcess
  let front: NodeProcess
  private let remoteText: String

  static let plugins = BuiltProducts.bundled + ["backend-http"]

  static let environment = ["PORT": "", "BACKPLANE_LIMITS_BODY_SIZE_BYTES_MAX": "134217728"]

  init(remote text: String? = nil, http: String = "", front more: String = "") throws {
    let port = FreePort.find()
    remoteText = text ?? "slots:\n  memory: {kind: backend, url: \"memory://\"}\n"
    remote = try NodeProcess(
      environment: Self.environment, configuration: Self.at(port, remoteText), port: port)
    let frontPort = FreePort.find()
    front = try NodeProcess(
      plugins: Self.plugins, environment: Self.environment,
      configuration: Self.at(
        frontPort,
        """
        slots:
          upstream: {kind: backend, url: "http://127.0.0.1:\(port)", health_interval_ms: 100\(http)}
        \(more)
        """), port: frontPort)
  }

  /// The configuration with its port.
  static func at(_ port: Int, _ text: String) -> String {
    text.replacing(
      "slots:\n", with: "slots:\n  http: {kind: transport, port: \(port), body_size_bytes_max: 134217728}\n")
  }

  /// The remote again, after it has ended, in the same folder and at the same port.
  func remoteAgain() throws -> NodeProcess {
    try NodeProcess(
      folder: remote.folder, environment: Self.environment, configuration: Self.at(remote.port, remoteText),
      port: remote.port)
  }
}
