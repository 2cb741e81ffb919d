/// What a kernel and the one that is to take its place tell each other, in this order:
///
///     new  hello                     old  welcome (with the listening sockets)
///     new  done                      every slot that can be beside its predecessor has started
///     old  serve, a slot each        new  done: calls of the old process are answered there
///          (state is exported while the old serves)
///     old  accept                    new  done: the transports accept, and what they accept waits at the door
///     old  start, an exclusive slot each, once it has stopped it     new  done
///          (fences; the rest of the state; the old sends its calls to the new)
///     old  commit                    new  committed: it serves
///
/// In the place of `done` the new one may send `refused`. It ends when the old one does before `commit`.
enum UpgradeMessage: Codable, Sendable {
  /// Kernels that differ in it do not replace each other.
  static let protocolVersion = 2

  struct Hello: Codable, Sendable {
    var protocolVersion = UpgradeMessage.protocolVersion
    /// Of the kernel.
    var version: String
  }

  struct Slot: Codable, Sendable {
    enum Role: String, Codable, Sendable {
      /// Both processes have an instance of it for a while.
      case beside
      /// So have they, but what it keeps in memory moves.
      case moves
      /// The old one's is stopped before the new one's is started.
      case exclusive
    }
    var name: String
    var role: Role
    var contentHash: String
    var stagedPath: String
    var sourcePath: String
    /// The generation that first published it.
    var born: UInt64
  }

  struct Missing: Codable, Sendable {
    var slot: String
    var plugin: String
    var version: String
    var reason: String
  }

  struct Listener: Codable, Sendable {
    var slot: String
    var name: String
    var address: String
  }

  struct Welcome: Codable, Sendable {
    /// What runs, as it was read when it was taken: what has been written to files since waits for the next reload.
    var node: NodeConfiguration
    var generation: UInt64
    /// See `VersionClock`.
    var versionLane: UInt64
    /// Processes before the new one that may still drain.
    var predecessors: Int
    var slots: [Slot]
    var missing: [Missing]
    /// One descriptor each, in this order; then one of the control socket, if there is one.
    var listeners: [Listener]
    var refusedBuilds: RefusedBuilds
    var files: [PluginCataloguer.KnownFile]
    /// What services have proposed; it is in `node`.
    var proposals: [Proposal]
  }

  struct Commit: Codable, Sendable {
    /// Without a number.
    var receipt: Receipt
    var counters: UpgradeCounters
    /// The old process is about to ask for the reload that it could not do.
    var isReloadComing: Bool
  }

  case hello(Hello)
  case welcome(Welcome)
  case serve(slot: String)
  case accept
  case start(slot: String)
  case commit(Commit)
  case done
  case refused([Receipt.Refused])
  /// The receipt as it is in the history.
  case committed(Receipt)
}
