import ManagedNode

/// Managed mode: reads the configuration, has it applied, and says how the node is. All of it but the loops that wake it
/// (Schedule.swift).
actor Manager {
  /// A configuration whose signature, rules and addressee are right.
  struct Candidate: Sendable {
    var record: StoredRecord
    var configuration: ManagedConfiguration
  }

  /// The configuration that the node runs on.
  struct InForce: Sendable {
    var record: StoredRecord
    var configuration: ManagedConfiguration
    var schema: LoadedSchema?
  }

  let settings: ManagedSettings
  let around: Surroundings
  let kept: KeptConfiguration
  let schemas: SchemaLoader
  let beganNs: UInt64

  var inForce: InForce?
  /// The configuration that was not taken last, and why.
  var failed: (record: StoredRecord, reason: String)?
  /// Why what is at CONFIG_URL is no configuration of this node's.
  var refusal: String?
  /// Why it could not be read.
  var pollTrouble: String?
  /// Why the schema of the configuration in force is not the one it names.
  var schemaTrouble: String?
  /// What became of an update that is not what it should be.
  var updateTrouble: String?
  var complaints = Complaints()
  var hasPolled = false
  var isEnding = false
  /// When a configuration that can be used was last read; at first when this began.
  var confirmedNs: UInt64
  var window: MetricsWindow
  /// Configurations, schemas and updates are applied one after the other.
  var turn = Turn()
  /// Statuses are written one after the other.
  var statusTurn = Turn()
  /// Tasks that sleep until a job is due, by job.
  var sleeping: [Job: Task<Void, Never>] = [:]
  /// The version that an update has brought in, while it is looked after.
  var watched: PluginNote?

  init(_ settings: ManagedSettings, _ around: Surroundings) {
    self.settings = settings
    self.around = around
    kept = KeptConfiguration(files: around.files)
    schemas = SchemaLoader(
      files: around.files, downloads: around.downloads, requiresChecksum: settings.requiresSchemaChecksum,
      sizeBytesMax: settings.downloadSizeBytesMax)
    beganNs = around.clock.monotonicNs
    confirmedNs = beganNs
    window = MetricsWindow(around.node.operations(), atNs: beganNs)
  }

  var identity: NodeIdentity { settings.identity }

  /// What makes the node another than its operator wants, most pressing first; nil: nothing.
  var problem: String? { failed?.reason ?? refusal ?? schemaTrouble ?? updateTrouble }

  func info(_ line: String) { around.journal.info(line) }
  func warning(_ line: String) { around.journal.warning(line) }

  /// Says it unless the same was said a moment ago.
  func complain(_ subject: String, _ line: String, once: Bool = false) {
    if complaints.shouldSay(subject, line, nowNs: around.clock.monotonicNs, once: once) { warning(line) }
  }

  func takeTurn() async {
    if turn.take() { return }
    await withCheckedContinuation { turn.wait($0) }
  }

  func updateHealth() {
    let now = around.clock.monotonicNs
    let unconfirmedNs = now - confirmedNs
    around.meter.ages(
      configuration: inForce.map { max(0, around.clock.wallMs - $0.record.timestampMs) / 1_000 },
      unconfirmed: Double(unconfirmedNs) / 1e9)
    if let failed { return around.meter.health("the configuration was not applied: \(failed.reason)") }
    if let refusal { return around.meter.health(refusal) }
    if let pollTrouble, unconfirmedNs >= 3 * intervalNs(.configuration) {
      return around.meter.health("the configuration cannot be refreshed: \(pollTrouble)")
    }
    if let schemaTrouble { return around.meter.health("the schema is not the configuration's: \(schemaTrouble)") }
    around.meter.health(updateTrouble)
  }
}
