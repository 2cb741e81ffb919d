/// What an instance knows about where it runs. Sendable: keep it.
public struct Context: Sendable {
  /// Why the instance was made.
  public enum Purpose: Sendable {
    /// It will be started and will serve.
    case serve
    /// It is thrown away after its configuration has been looked at.
    case check
    /// A self-test with a synthetic configuration: touch no configured resource.
    case test
  }

  /// The way back to the host, for the direct forms.
  public let host: HostHandle
  /// The slot's name: `primary`.
  public let slot: String
  public let purpose: Purpose
  /// Absolute path of the instance's own directory for data; exists; empty when `purpose` is `.check`.
  public let stateDirectory: String

  /// Log events; the host adds plugin, slot and generation.
  public var log: Log { Log(host: host) }
  /// Metrics; define them in `start`.
  public var metrics: Metrics { Metrics(host: host) }
  /// The node, as this instance may use it.
  public var node: NodeAccess { NodeAccess(host: host) }

  /// Says how the instance is; the last word holds. `message` is one sentence for the operator. Any thread.
  public func health(_ health: Health, _ message: String = "") {
    message.withView { host.table.pointee.health(host.instance, health.rawValue, $0) }
  }

  public enum Health: UInt32, Sendable {
    case healthy = 0
    /// Serves, but somebody should look.
    case degraded = 1
    /// Does not serve.
    case unhealthy = 2
  }

  public init(host: HostHandle, slot: String, purpose: Purpose, stateDirectory: String) {
    self.host = host
    self.slot = slot
    self.purpose = purpose
    self.stateDirectory = stateDirectory
  }
}
