import JSONText
import PluginAPI

/// What the node says of itself, as transports tell it to their clients.
public struct NodeReport {
  public private(set) var state = BP_HEALTH_HEALTHY
  public private(set) var isReady = true
  /// Schemes of the backends, in configured order.
  public private(set) var schemes: [String] = []
  /// "slot: sentence" of every slot that is not healthy.
  public private(set) var complaints: [String] = []

  /// Asks the node.
  public init(_ table: NodeTable) {
    guard let observe = table.observe else {
      state = BP_HEALTH_UNHEALTHY
      isReady = false
      complaints = ["this host has no backplane.observe/1"]
      return
    }
    var worst = BP_HEALTH_HEALTHY
    let flags = withUnsafeMutablePointer(to: &self) { pointer in
      observe.pointee.health(table.host.instance, &worst, pointer) { context, slot in
        guard let context, let slot else { return }
        context.assumingMemoryBound(to: NodeReport.self).pointee.add(slot.pointee)
      }
    }
    state = worst
    isReady = flags & BP_READY != 0
  }

  private mutating func add(_ slot: bp_slot_health) {
    if slot.kind.equals("backend"), slot.scheme.size > 0 { schemes.append(slot.scheme.text) }
    if slot.state != BP_HEALTH_HEALTHY {
      let message = slot.message.text
      complaints.append("\(slot.slot.text): \(message.isEmpty ? "not healthy" : message)")
    }
  }

  /// The health object (b3nd.md section 2). `backends` is what the peer's own tests and documentation expect.
  public func healthObject() -> [UInt8] {
    var body = Array("{\"status\":".utf8)
    switch state {
    case BP_HEALTH_HEALTHY: body.append(contentsOf: "\"healthy\"".utf8)
    case BP_HEALTH_DEGRADED: body.append(contentsOf: "\"degraded\"".utf8)
    default: body.append(contentsOf: "\"unhealthy\"".utf8)
    }
    if state != BP_HEALTH_HEALTHY {
      body.append(contentsOf: ",\"message\":".utf8)
      JSONWriter.appendString(
        complaints.isEmpty ? "the node is not healthy" : complaints.joined(separator: "; "), to: &body)
    }
    body.append(contentsOf: ",\"backends\":".utf8)
    Self.append(schemes, to: &body)
    body.append(UInt8(ascii: "}"))
    return body
  }

  /// The programs that the schemas list, as a JSON array of strings.
  public static func programs(_ table: NodeTable) -> [UInt8] {
    var keys: [String] = []
    withUnsafeMutablePointer(to: &keys) { pointer in
      table.node.pointee.programs(table.host.instance, pointer) { context, key in
        context?.assumingMemoryBound(to: [String].self).pointee.append(key.text)
      }
    }
    var body: [UInt8] = []
    append(keys, to: &body)
    return body
  }

  /// Appends a JSON array of strings.
  public static func append(_ texts: [String], to body: inout [UInt8]) {
    body.append(UInt8(ascii: "["))
    for (index, text) in texts.enumerated() {
      if index > 0 { body.append(UInt8(ascii: ",")) }
      JSONWriter.appendString(text, to: &body)
    }
    body.append(UInt8(ascii: "]"))
  }
}
