import JSONText
import ManagedNode

/// The slot of the schema in a proposal.
enum SchemaSlot: Equatable, Sendable {
  /// A plugin file.
  case plugin(path: String)
  /// A file with rules, YAML or JSON, which the kernel reads for the rules plugin.
  case rules(path: String)
}

/// A configuration as a proposal to the kernel (service.h).
enum ProposalText {
  /// The name of the slot with the configuration's schema.
  static let schemaSlot = "managed-schema"

  /// - Parameters:
  ///   - transport: the slot that serves the protocol over HTTP; nil: there is none to give a port to.
  ///   - schema: nil: the schemas of the layers below stay.
  static func json(
    _ configuration: ManagedConfiguration, transport: String?, schema: SchemaSlot?
  ) throws(Trouble) -> [UInt8] {
    var entries: [BackendEntry] = []
    for (index, backend) in configuration.backends.enumerated() {
      entries.append(try BackendEntry(backend, at: index))
    }
    entries += configuration.peers.map { BackendEntry($0) }
    var output = Array(#"{"replaces":["backend""#.utf8)
    if schema != nil { output += Array(#","schema""#.utf8) }
    output += Array(#"],"node":{"name":"#.utf8)
    JSONWriter.appendString(configuration.name, to: &output)
    output += Array(#"},"backends":["#.utf8)
    for (index, entry) in entries.enumerated() {
      if index > 0 { output.append(UInt8(ascii: ",")) }
      entry.append(to: &output)
    }
    output += Array(#"],"slots":{"#.utf8)
    if let transport {
      guard let port = configuration.server.portNumber else {
        throw Trouble("server.port is \(configuration.server.port), and a node listens on a whole number")
      }
      JSONWriter.appendString(transport, to: &output)
      output += Array(#":{"port":\#(port),"cors_origin":"#.utf8)
      JSONWriter.appendString(plain(configuration.server.corsOrigin), to: &output)
      output.append(UInt8(ascii: "}"))
    }
    if let schema {
      if transport != nil { output.append(UInt8(ascii: ",")) }
      output += Array(#""\#(schemaSlot)":{"kind":"schema","#.utf8)
      switch schema {
      case .plugin(let path):
        output += Array(#""plugin_path":"#.utf8)
        JSONWriter.appendString(path, to: &output)
      case .rules(let path):
        output += Array(#""plugin":"org.backplane.rules","rules":"#.utf8)
        JSONWriter.appendString("${yaml:\(path)}", to: &output)
      }
      output.append(UInt8(ascii: "}"))
    }
    output += Array("}}".utf8)
    return output
  }

  /// The operator's text means itself: the kernel fills `${…}` in slots.
  static func plain(_ text: String) -> String { text.replacing("${", with: "$${") }
}
