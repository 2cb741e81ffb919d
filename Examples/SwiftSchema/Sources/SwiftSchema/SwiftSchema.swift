import PluginAPI

/// One rule: a record below swift-schema://open is written once.
final class SwiftSchema: Schema {
  let programs = [Program("swift-schema://open")]

  init(_ configuration: NoConfiguration, _ context: Context) {}

  func judge(_ message: Message, _ reader: JudgeReader) async throws -> Verdict {
    let refusal = "\(message.uriReceived) is there already and is written once"
    if try await reader.read(message.uri) != nil { return .reject(refusal) }
    // On the condition that it is still absent: another message may be on its way.
    return .acceptIf(.absent, otherwise: refusal)
  }
}

// Id and version as in manifest.json: the kernel compares them.
let plugin = PluginEntry(SwiftSchema.self, id: "org.example.swift-schema", version: "1.0.0") {
  SwiftSchema.create($0, $1, $2)
}
@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
