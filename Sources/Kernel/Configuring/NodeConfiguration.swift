/// The whole configuration of a node, merged from all layers and checked. A value: two are equal when a node would
/// behave alike under both, wherever the values came from.
public struct NodeConfiguration: Sendable, Equatable, Codable {
  /// What the node calls itself in logs, health and status.
  public var name: String
  /// When a write counts as accepted.
  public var writePolicy: WritePolicy
  /// Sorted by kind, then `order`, then name; names are unique.
  public var slots: [SlotConfiguration]
  public var directories: Directories
  public var limits: Limits
  public var repair: Repair
  public var feed: Feed
  public var reload: Reload
  /// What becomes of a slot whose plugin's file has crashed the node.
  public var quarantinePolicy: Quarantine.Policy
  public var watchdog: Watchdog
  public var log: Log
  public var isolation = Isolation()

  /// Where plugins are looked for: the configured directories, then those of the services that may propose.
  public var pluginDirectories: [String] { directories.plugins + proposedPluginDirectories }

  /// Of services that may propose; they need not exist.
  var proposedPluginDirectories: [String] { slots.filter(\.mayPropose).map { directories.proposed(by: $0.name) } }

  /// The slots of one kind, in their order: for backends the order of reads, peers after them.
  public func slots(of kind: SlotConfiguration.Kind) -> [SlotConfiguration] { slots.filter { $0.kind == kind } }

  /// When a write counts as accepted (b3nd: at least one backend took it).
  public enum WritePolicy: String, Sendable, CaseIterable, Codable {
    /// At least one backend took the write; those that failed are behind.
    case any
    /// Every backend took it.
    case all
    /// More than half of the backends took it.
    case quorum
  }

  /// Absolute paths; none need exist yet.
  public struct Directories: Sendable, Equatable, Codable {
    /// What must survive a restart: the default SQLite file, history.
    public var state: String
    /// Where plugins are looked for, in this order; of two plugins with one id the later directory's wins.
    public var plugins: [String]
    /// Where verified copies of plugin files are kept and loaded from; must allow execution.
    public var staging: String
    /// Where the control socket is; recreated at every start.
    public var runtime: String

    /// What the instances of a slot may keep for themselves.
    func state(of slot: String) -> String { "\(state)/slots/\(slot)" }

    /// Where a service that may propose puts plugin files: looked at like `plugins`, after them, once it is there.
    func proposed(by slot: String) -> String { state(of: slot) + "/plugins.d" }

    /// The control socket: a Unix stream socket of mode 0600.
    public var controlSocket: String { runtime + "/control.sock" }
  }

  /// Bounds. Every one is positive; ranges are in `SettingCatalog` and docs/configuration.md.
  public struct Limits: Sendable, Equatable, Codable {
    /// Largest request body, in bytes.
    public var bodySizeBytesMax: Int
    /// Longest record URI, in bytes after normalising.
    public var uriSizeBytesMax: Int
    /// Most URIs of one read-multi.
    public var batchMessagesMax: Int
    /// Most records of one page of `list`.
    public var listPageRecordsMax: Int
    /// Most records one list holds at once.
    public var listSortRecordsMax: Int
    /// Most bytes one list holds for them.
    public var listSortSizeBytesMax: Int
    /// Longest time of all matching of one list's pattern, in milliseconds.
    public var listPatternTimeMs: Int
    /// Most calls running in one slot at a time.
    public var inFlightPerSlotMax: Int
    /// Most requests parked while a slot is handed over.
    public var parkedRequestsMax: Int
    /// Deadline of one request, in milliseconds.
    public var requestTimeoutMs: Int
    /// Longest time of one reload up to publishing, in milliseconds.
    public var reloadTimeoutMs: Int
    /// Most superseded plugin images kept mapped.
    public var retainedImagesMax: Int
    /// Most state that a slot may hand over, in bytes.
    public var stateHandoverSizeBytesMax: Int
    /// Largest plugin file, in bytes.
    public var pluginSizeBytesMax: Int
    /// Receipts kept in the history.
    public var historyReceiptsMax: Int
  }

  /// How backends get what they missed of acknowledged writes.
  public struct Repair: Sendable, Equatable, Codable {
    /// Most that the repair journal of one slot may hold, in bytes.
    public var journalSizeBytesMax: Int
    /// Most writes that are replayed at a time.
    public var batchUnitsMax: Int
  }

  /// What is kept of accepted messages for those who subscribe to them.
  public struct Feed: Sendable, Equatable, Codable {
    /// Writes kept.
    public var recordsMax: Int
    /// What they may take, in bytes.
    public var sizeBytesMax: Int
    /// Data larger than this is announced without it, in bytes.
    public var itemSizeBytesMax: Int
    /// Open subscriptions of all transports.
    public var subscriptionsMax: Int
    /// How long the writes are kept when the last subscription has gone, in milliseconds.
    public var retainMs: Int
  }

  /// How a reload waits. All times in milliseconds.
  public struct Reload: Sendable, Equatable, Codable {
    /// How long a dropped file must be unchanged before it is taken.
    public var settleMs: Int
    /// How long a file that vanished is treated as still there.
    public var removalGraceMs: Int
    /// Bound on a plugin's `start`.
    public var startTimeoutMs: Int
    /// Bound on the probe process.
    public var probeTimeoutMs: Int
    /// After this long a drain reports who holds the old generation.
    public var drainSoftMs: Int
    /// After this long a drain cancels what is left; at least `drainSoftMs`.
    public var drainHardMs: Int
    /// How long cancelled calls may take to come back; then their instance counts as wedged.
    public var cancelGraceMs: Int
    /// Bound on moving a slot's state, and on the wait for what still runs there.
    public var handoverTimeoutMs: Int
    /// Longest time a request waits while a slot is stopped and started anew.
    public var parkTimeoutMs: Int
    /// How long a replaced slot is on probation; 0 is not at all.
    public var probationMs: Int
    /// After so many calls the probation is passed.
    public var probationCalls: Int
    /// Whether the kernel takes its own place at `limits.retained_images_max` in the place of refusing.
    public var upgradeAtImageLimit: Bool
    /// Bound on everything up to the moment when the new process serves.
    public var upgradeTimeoutMs: Int
    /// Whether the plugin directories and configuration files are watched.
    public var watch: Bool
  }

  /// Which plugins run in processes of their own, and how these are kept alive. All times in milliseconds.
  public struct Isolation: Sendable, Equatable, Codable {
    public enum Policy: String, Sendable, CaseIterable, Codable {
      /// What the manifest asks for.
      case wish
      /// Every plugin whose manifest allows it.
      case process
    }

    /// For slots that do not say.
    public var policy = Policy.wish
    /// Shared memory for large payloads, for each process and direction.
    public var sharedMemorySizeBytes = 32 << 20
    /// Most bytes that may wait for one process.
    public var waitingSizeBytesMax = 64 << 20
    /// The longest pause before a restart; the first restart is at once, later pauses double from 100 ms.
    public var restartDelayMsMax = 5000
    /// More crashes than this within the window open the breaker.
    public var crashesMax = 5
    public var crashWindowMs = 60_000
    /// How long an open breaker rests before another try.
    public var breakerOpenMs = 30_000
    /// A process that has not completed a call so long after the call was cancelled is ended.
    public var cancelGraceMs = 10_000
  }

  /// What is reported of plugins that do not come back.
  public struct Watchdog: Sendable, Equatable, Codable {
    /// A thread that is so long in one call of a plugin is stuck, in milliseconds.
    public var callTimeoutMs: Int
  }

  public struct Log: Sendable, Equatable, Codable {
    public var level: Level
    public var format: Format

    /// Least severe first.
    public enum Level: String, Sendable, CaseIterable, Codable { case trace, debug, info, notice, warning, error }
    /// How an event is written; `auto` is journald's native fields under journald, else text.
    public enum Format: String, Sendable, CaseIterable, Codable { case auto, text, json, logfmt }
  }
}

/// One slot: a plugin under a name with its configuration.
///
/// Equality is what a reload goes by: equal slots keep their instance. It leaves `origins` out, so moving a line in the
/// file replaces nothing, and takes `json` in with secrets resolved, so a rotated password replaces the instance.
public struct SlotConfiguration: Sendable, Equatable, Codable, CustomStringConvertible, CustomReflectable {
  /// The kinds this kernel has slots for, in the order in which they are started.
  public enum Kind: String, Sendable, CaseIterable, Codable {
    case backend, schema, transport, service

    /// Requests of clients lead to calls of it: they hold it by their lease, and wait while it changes places.
    var takesCalls: Bool { self == .backend || self == .schema }
    /// It acts by itself, beside the requests: it is quiesced as soon as another has taken its place.
    var isActive: Bool { !takesCalls }
    /// Started one after the other in this order. Transports accept as soon as they have started, and a service may use
    /// all that serves.
    var startRank: Int {
      switch self {
      case .backend, .schema: 0
      case .transport: 1
      case .service: 2
      }
    }
  }

  /// `[a-z][a-z0-9_-]*`, at most 63 bytes.
  public let name: String
  public let kind: Kind
  /// The plugin's id (`org.backplane.http`), or nil: then `pluginPath` names a file, or a plugin is found by `scheme`.
  public let plugin: String?
  /// Absolute path of a plugin file to use (SCHEMA_MODULE, `plugin_path`); never set together with `plugin`.
  public let pluginPath: String?
  /// The scheme of `url` in lower case (`sqlite`), without `://`; nil without a URL.
  public let scheme: String?
  /// The place among slots of the kind: smaller comes first. Distinct among backends.
  public let order: Int
  /// The plugin's own configuration: one JSON object, canonical (sorted keys, no white space), with secrets resolved.
  /// **Holds secrets**: hand it to the plugin and print `redactedJSON` instead.
  public let json: String
  /// `json` as it may be shown: secrets as `***` or as the placeholder they were written as.
  public let redactedJSON: String
  /// Where each value of `json` came from, by JSON pointer within it (`/url`), so that what a plugin's `configure`
  /// refuses can be told with file and line.
  public let origins: [String: ConfigurationOrigin]
  /// Where it is to run; nil: as `isolation.default` and the plugin's manifest say.
  public var isolation: IsolationMode?
  /// Bounds of its process; of no effect without one.
  public var processLimits = ProcessLimits()
  /// It may propose configurations of the node; of the kind service.
  public var mayPropose = false
  /// What it is to the node when that is no backend of its own; of a backend slot.
  public var peer: PeerSettings?

  /// What a plugin's process may use. 0: no bound of ours.
  public struct ProcessLimits: Sendable, Equatable, Codable {
    /// Memory that it may allocate, thread stacks included (RLIMIT_DATA).
    public var memorySizeBytesMax = 0
    public var descriptorsMax = 0
    /// Processor time of the whole process, over its life.
    public var cpuSecondsMax = 0
  }

  public static func == (left: Self, right: Self) -> Bool {
    left.name == right.name && left.kind == right.kind && left.plugin == right.plugin
      && left.pluginPath == right.pluginPath && left.scheme == right.scheme && left.order == right.order
      && left.json == right.json && left.isolation == right.isolation && left.processLimits == right.processLimits
      && left.mayPropose == right.mayPropose
      && left.peer == right.peer
  }

  /// One line without secrets.
  public var description: String {
    "\(kind.rawValue) slot \(name) (\(plugin ?? pluginPath ?? scheme.map { $0 + "://" } ?? "?")) \(redactedJSON)"
  }

  /// What `dump`, `String(reflecting:)` and test failures see: nothing secret either.
  public var customMirror: Mirror { Mirror(self, children: ["description": description]) }

  /// Where the value at a JSON pointer of `json` came from, or the nearest value that encloses it.
  public func origin(at pointer: String) -> ConfigurationOrigin? { Self.origin(at: pointer, in: origins) }

  static func origin(at pointer: String, in origins: [String: ConfigurationOrigin]) -> ConfigurationOrigin? {
    var pointer = pointer[...]
    while true {
      if let origin = origins[String(pointer)] { return origin }
      guard let slash = pointer.lastIndex(of: "/") else { return nil }
      pointer = pointer[..<slash]
    }
  }
}

/// What loading gives: the configuration and what a person wants to know about it.
public struct LoadedConfiguration: Sendable {
  public let node: NodeConfiguration
  /// Every effective value with its origin, for `config show`: settings in the order of the documentation, then slots.
  public let values: [EffectiveValue]
  /// What is worth saying but prevents nothing.
  public let warnings: [ConfigurationProblem]
  /// The files that were read, absolute: `backplane.yaml` first, then the drop-ins in their order, then what slots took
  /// in with `${yaml:PATH}`.
  public let files: [String]
  /// What to watch for changes: the folders of the file, of its drop-ins and of files that slots took in, absolute. A
  /// folder may not exist yet.
  public let watchedDirectories: [String]
  /// What services have proposed, as far as it is in there; in the order of their slots.
  public internal(set) var proposals: [Proposal] = []
}

/// One line of `config show`.
public struct EffectiveValue: Sendable, Equatable {
  /// Dotted (`slots.http.port`).
  public let key: String
  /// The value as JSON text with secrets taken out, so that a text is in quotes and a number is not.
  public let value: String
  public let origin: ConfigurationOrigin
}
