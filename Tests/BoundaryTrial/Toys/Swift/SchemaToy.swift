import PluginAPI

/// A schema of envelopes. `msg://open` takes lines of "URI data": each is an output, to be judged by the schema of its
/// own program. `acct://toy` takes an output whose data is empty or names, after "after ", a record that must exist.
final class SchemaToy: Schema {
  init(_ configuration: NoConfiguration, _ context: Context) {}

  let programs = [Program("msg://open"), Program("acct://toy")]

  func judge(_ message: Message, _ reader: JudgeReader) async throws -> Verdict {
    let text = String(decoding: message.data, as: UTF8.self)
    guard message.program == "msg://open" else {
      guard text.hasPrefix("after ") else { return .accept }
      let named = String(text.dropFirst("after ".count))
      return try await reader.read(named) == nil ? .reject("'\(named)' does not exist") : .accept
    }
    var ops = [Op(.put(data: message.data, content: message.content), uri: message.uri)]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: " ", maxSplits: 1)
      let data = parts.count > 1 ? Array(parts[1].utf8) : []
      ops.append(Op(.put(data: data, content: .bytes), uri: String(parts[0]), isToJudge: true))
    }
    return .ops(ops)
  }

  static let entry = PluginEntry(SchemaToy.self, id: "org.example.toy.schema", version: "1.0.0") {
    SchemaToy.create($0, $1, $2)
  }
}
