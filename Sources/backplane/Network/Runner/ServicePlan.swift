import Glibc

/// A process that the local runner keeps running: what it is started with.
struct ServicePlan: Sendable {
  /// What its lines begin with.
  var name: String
  var port: Int
  /// Its own folder, made when it is missing.
  var directory: String
  var environment: [String: String]
  /// The text of `backplane.yaml` in the folder, so that none of this machine's is taken.
  var configuration: String

  /// Whether one that runs must be started anew to be as `other` says. What its configuration says it takes over while it
  /// serves, and these variables are for its first moments only.
  func mustRestart(for other: ServicePlan) -> Bool {
    func lasting(_ plan: ServicePlan) -> [String: String] {
      plan.environment.filter { $0.key != "PORT" && $0.key != "CORS_ORIGIN" }
    }
    return directory != other.directory || configuration != other.configuration || lasting(self) != lasting(other)
  }

  /// Variables of this process that a node needs too; no others are handed on.
  private static let inherited = ["PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "TZ", "BACKPLANE_ISOLATION_DEFAULT"]

  /// What every node is started with.
  static func environment(directory: String, plugins: [String], port: Int) -> [String: String] {
    var environment = [
      "STATE_DIRECTORY": directory, "PORT": "\(port)",
      "BACKPLANE_DIRECTORIES_PLUGINS": plugins.joined(separator: ":"),
    ]
    for name in inherited {
      if let value = getenv(name) { environment[name] = String(cString: value) }
    }
    return environment
  }
}
