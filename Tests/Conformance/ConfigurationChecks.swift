import Foundation
import PluginAPI
import PluginTestHost

/// What `configure` takes, refuses and leaves alone.
struct ConfigurationChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let unknownKey = "conformance_unknown_key"

  /// False: the plugin takes no configuration that the suite knows, so nothing can be started.
  func run() async -> Bool {
    let json = bench.plugin.effectiveConfiguration
    let isAccepted = await bench.recording.check("configure.accepts") {
      let directory = try bench.makeDirectory()
      defer { bench.remove(directory) }
      do {
        let host = try bench.configured(in: directory)
        host.destroy()
      } catch let error as TestHostError {
        throw Problem("\(error)\n  The configuration was \(json); give one that works with --configuration.")
      }
      return ""
    }
    await unknownKey(json)
    await types(json)
    await hostile(json)
    await sideEffects()
    return isAccepted
  }

  private func unknownKey(_ json: String) async {
    await bench.recording.check("configure.unknown-key") {
      let changed = try object(json, setting: ConfigurationChecks.unknownKey, to: 1)
      let errors = try refusal(of: changed, "a configuration with the unknown key \(ConfigurationChecks.unknownKey)")
      let pointer = "/\(ConfigurationChecks.unknownKey)"
      try require(
        errors.contains { $0.pointer == pointer },
        "the unknown key was refused, but no error points to \(pointer); the pointers were \(errors.map(\.pointer))")
      return ""
    }
  }

  private func types(_ json: String) async {
    await bench.recording.check("configure.types") {
      let values = wrongValues(json)
      for (key, value) in values {
        let changed = try object(json, setting: key, to: value)
        let errors = try refusal(of: changed, "a configuration whose key '\(key)' has a value of the wrong type")
        let pointer = "/\(key)"
        try require(
          errors.contains { $0.pointer == pointer || $0.pointer.hasPrefix(pointer + "/") },
          "the wrong type of '\(key)' was refused, but no error points to \(pointer); the pointers were "
            + "\(errors.map(\.pointer))")
      }
      return values.isEmpty ? "no key is known: neither the configuration nor configuration_schema names one" : ""
    }
  }

  /// Each known key with a value that cannot be right.
  private func wrongValues(_ json: String) -> [(key: String, value: Any)] {
    var wrong: [String: Any] = [:]
    for (key, value) in parsed(json) ?? [:] { wrong[key] = value is [String: Any] ? "text" : ["not": "this"] }
    let schema = bench.plugin.configurationSchema.flatMap(parsed)
    for (key, value) in schema?["properties"] as? [String: Any] ?? [:] {
      guard let property = value as? [String: Any] else { continue }
      if let type = property["type"] as? String {
        wrong[key] = type == "object" ? "text" : ["not": "this"]
      } else if property["enum"] != nil {
        wrong[key] = ["not": "this"]
      }
    }
    return wrong.sorted { $0.key < $1.key }
  }

  /// The kernel sends one JSON object, always; but a defect of its own must not become a crash of the node.
  private func hostile(_ json: String) async {
    await bench.recording.check("configure.hostile") {
      let texts = [
        "", "null", "[]", "5", "\"\"", "{", "{}}", "{\"a\"", "\u{feff}{}", "{\"\\ud800\":1}", "{\"a\":1e999}",
        String(repeating: "[", count: 20_000), String(repeating: "{\"a\":", count: 10_000),
        "{\"a\":\"\(String(repeating: "x", count: 70_000))\"}", String(json.dropLast()),
      ]
      for text in texts {
        let host = try bench.created(.check)
        // Taken or refused: the answer is the plugin's to choose, as long as there is one.
        _ = try? host.configure(text, purpose: .check)
        bench.recording.add(host.violations)
        host.destroy()
      }
      return ""
    }
  }

  private func sideEffects() async {
    await bench.recording.check("configure.no-side-effects") {
      let directory = try bench.makeDirectory()
      defer { bench.remove(directory) }
      let before = ProcessCounts.now()
      let above = try FileManager.default.contentsOfDirectory(atPath: bench.plugin.scratchDirectory).sorted()
      var hosts: [TestHost] = []
      for _ in 0..<16 {
        // What CHECK refuses, because it has no state directory, is no side effect.
        let check = try bench.created(.check)
        _ = try? check.configure(bench.plugin.effectiveConfiguration, purpose: .check)
        hosts.append(check)
      }
      let serve = try bench.created()
      _ = try? serve.configure(bench.plugin.effectiveConfiguration, stateDirectory: directory)
      hosts.append(serve)
      defer { for host in hosts { host.destroy() } }
      let files = try FileManager.default.contentsOfDirectory(atPath: directory)
      try require(files.isEmpty, "configure made \(files.sorted()) in the state directory; start is the place for that")
      let after = try FileManager.default.contentsOfDirectory(atPath: bench.plugin.scratchDirectory).sorted()
      try require(after == above, "configure changed the working directory: \(above) became \(after)")
      if bench.ownsProcess, let grown = await before.growth(ofAtLeast: 12) {
        throw Problem("create and configure of 17 instances: \(grown); start is the place for threads and descriptors")
      }
      return ""
    }
  }

  /// The errors of a refusal; throws when it was none.
  private func refusal(of json: String, _ what: String) throws -> [Diagnostic] {
    let host = try bench.created(.check)
    defer { host.destroy() }
    defer { bench.recording.add(host.violations) }
    do {
      try host.configure(json, purpose: .check)
    } catch let error as TestHostError {
      let errors = error.diagnostics.filter { $0.severity == .error }
      for error in errors where error.message.isEmpty {
        throw Problem("\(what) was refused with an error at '\(error.pointer)' that has no message")
      }
      return errors
    }
    throw Problem("\(what) was accepted: \(json)")
  }

  private func parsed(_ json: String) -> [String: Any]? {
    try? JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
  }

  private func object(_ json: String, setting key: String, to value: Any) throws -> String {
    guard var object = parsed(json) else { throw Problem("the configuration \(json) is not a JSON object") }
    object[key] = value
    return String(decoding: try JSONSerialization.data(withJSONObject: object, options: .sortedKeys), as: UTF8.self)
  }
}
