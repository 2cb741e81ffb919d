/// One scalar setting: everything outside `slots`.
public struct Setting: Sendable {
  /// What values a setting takes.
  public enum Kind: Sendable, Equatable {
    case integer(ClosedRange<Int>)
    case boolean
    case choice([String])
    /// 1 to 4096 bytes without control characters.
    case text
    /// A path: from a file relative to the folder of `backplane.yaml`, from elsewhere to the working directory.
    case path
    /// Several paths; in the environment separated by `:`.
    case paths
    /// Several slot names; in the environment separated by `,`.
    case names
  }

  /// Dotted key, which is the place in the file.
  public let key: String
  public let kind: Kind
  /// The default as text; nil when it is computed (`defaultNote` says how).
  public let defaultText: String?
  public let defaultNote: String?
  /// What a number counts: bytes, records, ms, …
  public let unit: String?
  /// Names in the environment; of several that are set the first wins.
  public let environmentNames: [String]
  /// The flag, besides `--set KEY=VALUE` that every setting has.
  public let flag: String?
  /// One sentence for the documentation.
  public let summary: String

  init(
    _ key: String, _ kind: Kind, default defaultText: String? = nil, defaultNote: String? = nil, unit: String? = nil,
    alsoEnvironment: [String] = [], flag: String? = nil, _ summary: String
  ) {
    self.key = key
    self.kind = kind
    self.defaultText = defaultText
    self.defaultNote = defaultNote
    self.unit = unit
    let ownName = "BACKPLANE_" + key.uppercased().split(separator: ".").joined(separator: "_")
    self.environmentNames = [ownName] + alsoEnvironment
    self.flag = flag
    self.summary = summary
  }
}

/// Every scalar setting there is. The file reader, the environment, the flags, `config show` and the test of
/// docs/configuration.md all go by this one list.
public enum SettingCatalog {
  public static let all: [Setting] = [
    Setting("node.name", .text, default: "backplane", "The node's name in logs, health and status."),
    Setting(
      "node.write_policy", .choice(NodeConfiguration.WritePolicy.allCases.map(\.rawValue)), default: "any",
      "A write is accepted when any, all or more than half (quorum) of the backends took it."),
    Setting(
      "node.backends", .names, defaultNote: "by `order`",
      "Names of all backend slots in the order they are read in; takes the place of their `order`."),
    Setting(
      "directories.state", .path, default: "data", alsoEnvironment: ["STATE_DIRECTORY"], flag: "--state",
      "What must survive a restart."),
    Setting(
      "directories.plugins", .paths, default: "plugins.d", flag: "--plugins",
      "Where plugins are dropped; of two with one id the later directory's wins."),
    Setting(
      "directories.staging", .path, defaultNote: "`staging` in the state directory",
      "Verified copies of plugin files, which are what is loaded; must allow execution."),
    Setting(
      "directories.runtime", .path, defaultNote: "`run` in the state directory", alsoEnvironment: ["RUNTIME_DIRECTORY"],
      flag: "--runtime", "Holds the control socket `control.sock`."),
    Setting(
      "limits.body_size_bytes_max", .integer(1...1_073_741_824), default: "16777216", unit: "bytes",
      "Largest request body."),
    Setting(
      "limits.uri_size_bytes_max", .integer(64...65_536), default: "8192", unit: "bytes", "Longest record URI."),
    Setting(
      "limits.batch_messages_max", .integer(1...10_000), default: "100", unit: "messages",
      "Most URIs of one read-multi."),
    Setting(
      "limits.list_page_records_max", .integer(1...100_000), default: "1000", unit: "records",
      "Most records of one page of a list."),
    Setting(
      "limits.list_sort_records_max", .integer(1...10_000_000), default: "1000000", unit: "records",
      "Most records one list holds at once; a sorted one holds twice those up to its page's end."),
    Setting(
      "limits.list_sort_size_bytes_max", .integer(65_536...17_179_869_184), default: "268435456", unit: "bytes",
      "Most bytes one list holds for them: URIs, keys to sort by, book-keeping."),
    Setting(
      "limits.list_pattern_time_ms", .integer(1...600_000), default: "1000", unit: "ms",
      "Longest time of all matching of one list's pattern."),
    Setting(
      "limits.in_flight_per_slot_max", .integer(1...1_000_000), default: "4096", unit: "calls",
      "Most calls running in one slot at a time."),
    Setting(
      "limits.parked_requests_max", .integer(0...1_000_000), default: "10000", unit: "requests",
      "Most requests parked while a slot is handed over."),
    Setting(
      "limits.request_timeout_ms", .integer(1...3_600_000), default: "30000", unit: "ms", "Deadline of one request."),
    Setting(
      "limits.reload_timeout_ms", .integer(100...3_600_000), default: "60000", unit: "ms",
      "Longest time of one reload up to publishing."),
    Setting(
      "limits.retained_images_max", .integer(1...10_000), default: "500", unit: "images",
      "Most superseded plugin images kept mapped; see `reload.upgrade_at_image_limit`."),
    Setting(
      "limits.state_handover_size_bytes_max", .integer(1_048_576...1_099_511_627_776), default: "4294967296",
      unit: "bytes", "Most state that a slot may hand over to its successor."),
    Setting(
      "limits.plugin_size_bytes_max", .integer(4096...4_294_967_296), default: "268435456", unit: "bytes",
      "Largest plugin file."),
    Setting(
      "limits.history_receipts_max", .integer(1...100_000), default: "100", unit: "receipts",
      "Receipts kept in the history."),
    Setting(
      "repair.journal_size_bytes_max", .integer(1_048_576...1_099_511_627_776), default: "268435456", unit: "bytes",
      "Most that the repair journal of one backend may hold; what it misses beyond that stays missing."),
    Setting(
      "repair.batch_units_max", .integer(1...100_000), default: "512", unit: "writes",
      "Most writes of a repair journal that are replayed at a time."),
    Setting(
      "feed.records_max", .integer(1...16_777_216), default: "65536", unit: "writes",
      "Most accepted writes that are kept for subscribers; one that is further behind is told of a gap."),
    Setting(
      "feed.size_bytes_max", .integer(65_536...17_179_869_184), default: "33554432", unit: "bytes",
      "Most bytes that these writes may take."),
    Setting(
      "feed.item_size_bytes_max", .integer(0...1_073_741_824), default: "1048576", unit: "bytes",
      "Largest data that subscribers get; larger is announced without data."),
    Setting(
      "feed.subscriptions_max", .integer(0...10_000_000), default: "100000", unit: "subscriptions",
      "Most open subscriptions of all transports."),
    Setting(
      "feed.retain_ms", .integer(0...86_400_000), default: "300000", unit: "ms",
      "How long the writes are kept when nobody subscribes any more, so that a client can come back."),
    Setting(
      "reload.settle_ms", .integer(0...60_000), default: "250", unit: "ms",
      "How long a dropped file must be unchanged before it is taken."),
    Setting(
      "reload.removal_grace_ms", .integer(0...600_000), default: "2000", unit: "ms",
      "How long a plugin file that was removed counts as still there, since its successor may be on its way."),
    Setting(
      "reload.start_timeout_ms", .integer(10...600_000), default: "10000", unit: "ms", "Bound on a plugin's start."),
    Setting(
      "reload.probe_timeout_ms", .integer(10...600_000), default: "5000", unit: "ms", "Bound on the probe process."),
    Setting(
      "reload.drain_soft_ms", .integer(0...86_400_000), default: "30000", unit: "ms",
      "After this long a drain reports who holds the old generation."),
    Setting(
      "reload.drain_hard_ms", .integer(0...86_400_000), default: "300000", unit: "ms",
      "After this long a drain cancels what is left; not less than the soft limit."),
    Setting(
      "reload.cancel_grace_ms", .integer(0...600_000), default: "5000", unit: "ms",
      "How long cancelled calls may take to come back; then their instance counts as wedged."),
    Setting(
      "reload.handover_timeout_ms", .integer(10...3_600_000), default: "30000", unit: "ms",
      "Bound on moving a slot's state to its successor, and on the wait for what is still running there."),
    Setting(
      "reload.park_timeout_ms", .integer(1...3_600_000), default: "10000", unit: "ms",
      "Longest time that a request waits while a slot is stopped and started anew; then it is answered 503."),
    Setting(
      "reload.probation_ms", .integer(0...86_400_000), default: "60000", unit: "ms",
      "How long a replaced slot is compared with its predecessor; 0 is not at all."),
    Setting(
      "reload.probation_calls", .integer(200...10_000_000), default: "1000", unit: "calls",
      "After so many calls a replaced slot has passed its probation, also before the time is up."),
    Setting(
      "reload.upgrade_at_image_limit", .boolean, default: "true",
      "At `limits.retained_images_max` a new process takes the node over, with none; else new content is refused."),
    Setting(
      "reload.upgrade_timeout_ms", .integer(100...3_600_000), default: "60000", unit: "ms",
      "Bound on an upgrade, from the start of the new process until it serves."),
    Setting(
      "reload.watch", .boolean, default: "true", "Watch the plugin directories and the configuration for changes."),
    Setting(
      "isolation.default", .choice(NodeConfiguration.Isolation.Policy.allCases.map(\.rawValue)), default: "wish",
      "Where plugins run whose slot does not say: as their manifest wishes, or in processes where it allows it."),
    Setting(
      "isolation.shared_memory_size_bytes", .integer(65_536...1_073_741_824), default: "33554432", unit: "bytes",
      "Shared memory for large payloads, for each process and direction; when it is full they go by the socket."),
    Setting(
      "isolation.waiting_size_bytes_max", .integer(1_048_576...4_294_967_296), default: "67108864", unit: "bytes",
      "Most bytes that may wait for one process; over it calls are refused."),
    Setting(
      "isolation.restart_delay_ms_max", .integer(0...600_000), default: "5000", unit: "ms",
      "Longest pause before a crashed process is restarted; the first is at once, later ones double from 100 ms."),
    Setting(
      "isolation.crashes_max", .integer(1...1000), default: "5", unit: "crashes",
      "More crashes of one slot than this within the window open its breaker."),
    Setting(
      "isolation.crash_window_ms", .integer(1000...86_400_000), default: "60000", unit: "ms",
      "The window in which crashes are counted."),
    Setting(
      "isolation.breaker_open_ms", .integer(10...86_400_000), default: "30000", unit: "ms",
      "How long an open breaker refuses calls before a process is tried again."),
    Setting(
      "isolation.cancel_grace_ms", .integer(10...3_600_000), default: "10000", unit: "ms",
      "A process that has not completed a call so long after it was cancelled is ended."),
    Setting(
      "quarantine.policy", .choice(Quarantine.Policy.allCases.map(\.rawValue)), default: "isolate",
      "What becomes of a slot whose plugin's file has crashed the node: a process of its own, no start, or nothing."),
    Setting(
      "watchdog.call_timeout_ms", .integer(10...3_600_000), default: "10000", unit: "ms",
      "A thread that is so long in one call of a plugin is reported as stuck."),
    Setting(
      "log.level", .choice(NodeConfiguration.Log.Level.allCases.map(\.rawValue)), default: "info", flag: "--log-level",
      "Least severe level that is logged."),
    Setting(
      "log.format", .choice(NodeConfiguration.Log.Format.allCases.map(\.rawValue)), default: "auto",
      flag: "--log-format", "How an event is written; auto: fields of the journal under journald, else text."),
  ]

  static let byKey = Dictionary(uniqueKeysWithValues: all.map { ($0.key, $0) })
  /// The mappings of the file that hold settings: `node`, `directories`, `limits`, `repair`, `feed`, `reload`, `isolation`,
  /// `quarantine`, `watchdog`, `log`.
  static let sections = Set(all.map { String($0.key.prefix { $0 != "." }) })
  /// Variables that begin with BACKPLANE_ and are not settings.
  static let otherEnvironmentNames = ["BACKPLANE_CONFIG", "BACKPLANE_NODE", "BACKPLANE_SHARED"]
}
