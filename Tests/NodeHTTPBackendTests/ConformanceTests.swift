import Foundation
import NodeTesting
import Testing

/// The suite of `backplane plugin check`, with a second node behind the plugin.
@Suite struct PluginCheckOverHTTPTests {
  @Test func aSecondNodePasses() throws {
    let port = FreePort.find()
    let remote = try NodeProcess(
      environment: TwoNodes.environment,
      configuration: TwoNodes.at(port, "slots:\n  records: {kind: backend, url: \"memory://\"}\n"), port: port)
    let (output, errors, _) = try remote.command([
      "plugin", "check", BuiltProducts.plugin("backend-http"), "--seed", "5", "--json", "--timeout", "600",
      "--configuration", #"{"url":"http://127.0.0.1:\#(port)"}"#,
    ])
    let report = try #require(try? JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any], "\(errors)")
    let checks = try #require(report["checks"] as? [[String: Any]])
    for check in checks where check["passed"] as? Bool != true {
      Issue.record("\(check["name"] ?? ""): \(check["detail"] ?? "")")
    }
    #expect(report["ok"] as? Bool == true && checks.contains { $0["name"] as? String == "backend.model" })
    #expect(remote.isRunning)
  }
}
