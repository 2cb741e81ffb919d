import Foundation
import NodeTesting
import Testing

/// A node whose schema is a rules file.
final class RulesNode {
  static let plugins = ["backend-memory", "schema-rules", "transport-http"]

  let node: NodeProcess
  let folder: TemporaryFolder

  /// - Parameter files: `rules.yaml` and what it takes in, in the folder `rules`.
  init(_ files: [String: String], settings: String = "", environment: [String: String] = [:]) throws {
    folder = try TemporaryFolder()
    for (name, text) in files { try folder.write(text, to: "rules/\(name)") }
    node = try NodeProcess(
      folder: folder, plugins: Self.plugins, environment: environment,
      configuration: """
        \(settings)
        slots:
          memory: {kind: backend, url: "memory://"}
          schema:
            plugin: org.backplane.rules
            rules: ${yaml:rules/rules.yaml}
        """)
  }

  func write(_ text: String, to name: String = "rules.yaml") throws { try folder.write(text, to: "rules/\(name)") }

  /// The error text of a message; nil when it was accepted.
  func refusal(_ uri: String, _ json: String) throws -> String? {
    let answer = try node.put(uri, json)
    if answer.status == 200 { return nil }
    let object = try JSONSerialization.jsonObject(with: Data(answer.body)) as? [String: Any]
    return object?["error"] as? String ?? "status \(answer.status)"
  }

  func exists(_ uri: String) throws -> Bool { try node.read(uri.replacing("://", with: "/")).status == 200 }
}
