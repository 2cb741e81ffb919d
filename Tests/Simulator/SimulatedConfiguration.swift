#if SIMULATION
@testable import Kernel

extension NodeConfiguration {
  /// The defaults, as a node without any configuration has them.
  static let standard: NodeConfiguration = {
    do {
      return try ConfigurationLoader.load(environment: [:], workingDirectory: "/simulated").node
    } catch { Report.violated("the defaults do not load: \(error)") }
  }()

  static func simulated(_ style: Style, slots: [SlotConfiguration], policy: WritePolicy) -> NodeConfiguration {
    var node = standard
    node.slots = slots
    node.writePolicy = policy
    node.log = Log(level: .error, format: .text)
    node.directories.plugins = ["/plugins"]
    node.reload.probationMs = style.probationMs
    node.reload.parkTimeoutMs = style.parkTimeoutMs
    node.reload.handoverTimeoutMs = style.handoverTimeoutMs
    node.reload.drainSoftMs = style.drainSoftMs
    node.reload.drainHardMs = style.drainHardMs
    node.reload.cancelGraceMs = 100
    node.reload.startTimeoutMs = 200
    node.reload.watch = false
    node.limits.requestTimeoutMs = style.requestTimeoutMs
    node.limits.reloadTimeoutMs = 5000
    node.limits.parkedRequestsMax = style.parkedMax
    node.limits.inFlightPerSlotMax = style.inFlightMax
    return node
  }
}
#endif
