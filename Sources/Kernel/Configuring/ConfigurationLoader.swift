import Glibc

/// Loads the configuration of a node from all its layers:
/// defaults < `backplane.yaml` < `conf.d/*.yaml` < environment < flags < what services have proposed.
public enum ConfigurationLoader {
  /// Reads, merges and checks. Reads files and nothing else: no directory is made, no plugin looked for.
  ///
  /// - Parameters:
  ///   - flags: what the command line says.
  ///   - environment: the variables; empty ones count as not set.
  ///   - workingDirectory: absolute; relative paths of flags and environment are relative to it.
  ///   - proposals: what services of this node have proposed. Those whose slot may not propose (any more) are left out,
  ///     with a warning.
  /// - Throws: every problem there is, at most 100, each with its place.
  ///
  /// Any thread; blocks on file reads. Call it again for a reload: files and secrets are read anew.
  public static func load(
    flags: ConfigurationFlags = ConfigurationFlags(),
    environment: [String: String],
    workingDirectory: String,
    proposals: [Proposal] = []
  ) throws(ConfigurationError) -> LoadedConfiguration {
    var problems = ProblemList()
    var warnings: [ConfigurationProblem] = []
    let environment = environment.filter { !$0.value.isEmpty }

    let files = ConfigurationFiles(
      named: named(flags, environment), workingDirectory: workingDirectory, problems: &problems)
    let fileBase = files.directory ?? workingDirectory

    var slots = SlotLayers()
    var layers = [ScalarLayer.defaults(workingDirectory: workingDirectory)]
    for document in files.documents {
      layers.append(.file(document, base: fileBase, slots: &slots, problems: &problems))
    }
    layers.append(
      .environment(environment, workingDirectory: workingDirectory, problems: &problems, warnings: &warnings))
    layers.append(.flags(flags, workingDirectory: workingDirectory, problems: &problems))
    var settings = ScalarSettings(layers: layers)
    let directories = directories(settings, problems: &problems)

    let secrets = Secrets(environment: environment, stateDirectory: directories.state)
    let backendsOverridden = applyOverrides(
      flags, environment, to: &slots, secrets: secrets, workingDirectory: workingDirectory, problems: &problems,
      warnings: &warnings)
    var builder = SlotBuilder(
      secrets: secrets, fileBase: fileBase, workingDirectory: workingDirectory,
      slotDirectory: directories.state(of:))
    var names = backendsOverridden ? nil : settings.winning(SettingCatalog.byKey["node.backends"]!)
    let documents = documents(proposals, slots, problems: &problems, warnings: &warnings)
    var laid: [Proposal] = []
    if !documents.isEmpty {
      let layer = ProposalLayer(
        documents, secrets: secrets, base: builder.base(of:), stateDirectory: directories.state(of:),
        pluginDirectories: directories.plugins + ProposalLayer.proposingSlots(slots).map(directories.proposed(by:)))
      settings = ScalarSettings(layers: layers + [layer.settings(problems: &problems)])
      laid = layer.lay(over: &slots, names: names, problems: &problems)
      names = nil
    }
    let built = builder.build(slots.slots, problems: &problems)
    let ordered = SlotOrdering.order(built, names: names, mapping: slots.slots, problems: &problems)
    checkDrain(settings, problems: &problems)
    let watchedDirectories = watched(files, builder.included)
    do throws(ConfigurationError) {
      try problems.throwIfAny()
    } catch {
      var error = error
      error.watchedDirectories = watchedDirectories
      throw error
    }

    var node = NodeConfiguration(
      name: settings.text("node.name"),
      writePolicy: NodeConfiguration.WritePolicy(rawValue: settings.text("node.write_policy"))!,
      slots: ordered, directories: directories, limits: limits(settings), repair: repair(settings),
      feed: feed(settings), reload: reload(settings),
      quarantinePolicy: Quarantine.Policy(rawValue: settings.text("quarantine.policy"))!,
      watchdog: NodeConfiguration.Watchdog(callTimeoutMs: settings.integer("watchdog.call_timeout_ms")),
      log: log(settings))
    node.isolation = isolation(settings)
    return LoadedConfiguration(
      node: node, values: EffectiveValue.list(settings, directories: directories, slots: slots.slots, order: ordered),
      warnings: warnings, files: files.documents.map(\.absolutePath) + builder.included.files,
      watchedDirectories: watchedDirectories, proposals: laid)
  }

  /// The proposals that count, in the order of their slots.
  private static func documents(
    _ proposals: [Proposal], _ slots: SlotLayers, problems: inout ProblemList,
    warnings: inout [ConfigurationProblem]
  ) -> [ProposalDocument] {
    guard !proposals.isEmpty else { return [] }
    let slots = ProposalLayer.proposingSlots(slots)
    for proposal in proposals where !slots.contains(proposal.slot) {
      warnings.append(
        ConfigurationProblem(
          .proposal(slot: proposal.slot, pointer: ""),
          "It is left out: no slot \(proposal.slot) of the kind service with `may_propose: true` is configured."))
    }
    return slots.compactMap { name in
      proposals.first { $0.slot == name }.flatMap { ProposalDocument($0, problems: &problems) }
    }
  }

  /// The folders of what was read, each once.
  private static func watched(_ files: ConfigurationFiles, _ included: IncludedFiles) -> [String] {
    let own = files.directory.map { [$0, $0 == "/" ? "/conf.d" : $0 + "/conf.d"] } ?? []
    return own + included.folders.filter { !own.contains($0) }
  }

  /// The control socket of the node that this configuration would start, as well as can be told: what is wrong elsewhere
  /// in the configuration is passed over, because asking a running node must work while its file is being mended.
  /// Absolute; blocks on file reads.
  public static func controlSocket(
    flags: ConfigurationFlags = ConfigurationFlags(), environment: [String: String], workingDirectory: String
  ) -> String {
    var problems = ProblemList()
    var warnings: [ConfigurationProblem] = []
    let environment = environment.filter { !$0.value.isEmpty }
    let named = named(flags, environment)
    let files = ConfigurationFiles(named: named, workingDirectory: workingDirectory, problems: &problems)
    var slots = SlotLayers()
    var layers = [ScalarLayer.defaults(workingDirectory: workingDirectory)]
    for document in files.documents {
      let base = files.directory ?? workingDirectory
      layers.append(.file(document, base: base, slots: &slots, problems: &problems))
    }
    layers.append(
      .environment(environment, workingDirectory: workingDirectory, problems: &problems, warnings: &warnings))
    layers.append(.flags(flags, workingDirectory: workingDirectory, problems: &problems))
    return directories(ScalarSettings(layers: layers), problems: &problems).controlSocket
  }

  private static func named(
    _ flags: ConfigurationFlags, _ environment: [String: String]
  ) -> (path: String, origin: ConfigurationOrigin)? {
    flags.config.map { ($0, ConfigurationOrigin.flag(name: "--config")) }
      ?? environment["BACKPLANE_CONFIG"].map { ($0, ConfigurationOrigin.environment(name: "BACKPLANE_CONFIG")) }
  }

  /// Lays PORT, BACKEND_URL and the like over the slots. True when the backends came from there.
  private static func applyOverrides(
    _ flags: ConfigurationFlags, _ environment: [String: String], to slots: inout SlotLayers, secrets: Secrets,
    workingDirectory: String, problems: inout ProblemList, warnings: inout [ConfigurationProblem]
  ) -> Bool {
    func override(_ flag: String?, _ flagName: String, _ variable: String) -> SlotLayers.Override? {
      if let flag { return .init(text: flag, origin: .flag(name: flagName)) }
      return environment[variable].map { .init(text: $0, origin: .environment(name: variable)) }
    }
    slots.addDefaults()
    if let port = override(flags.port, "--port", "PORT") { slots.setPort(port, problems: &problems) }
    if let origin = override(flags.corsOrigin, "--cors-origin", "CORS_ORIGIN") {
      slots.setCORSOrigin(origin, problems: &problems)
    }
    if let schema = override(flags.schemaModule, "--schema", "SCHEMA_MODULE") {
      slots.setSchemaModule(schema, problems: &problems)
    }
    if let url = override(flags.configURL, "--config-url", "CONFIG_URL") {
      slots.setManaged(url, environment: environment, problems: &problems)
    }
    let backends = flags.backendURLs.isEmpty ? nil : flags.backendURLs.joined(separator: ",")
    guard let list = override(backends, "--backend", "BACKEND_URL") else {
      slots.addDefaultBackend()
      return false
    }
    slots.setBackends(list, secrets: secrets, base: workingDirectory, problems: &problems, warnings: &warnings)
    return true
  }

  private static func directories(
    _ settings: ScalarSettings, problems: inout ProblemList
  ) -> NodeConfiguration.Directories {
    func path(_ key: String) -> String? {
      guard let value = settings.winning(SettingCatalog.byKey[key]!), case .string(let text) = value.content else {
        return nil
      }
      return ConfigurationFile.absolute(text, base: value.baseDirectory)
    }
    let state = path("directories.state")!
    var plugins: [String] = []
    if let value = settings.winning(SettingCatalog.byKey["directories.plugins"]!),
      case .stringArray(let paths) = value.content
    {
      plugins = paths.map { ConfigurationFile.absolute($0, base: value.baseDirectory) }
    }
    let directories = NodeConfiguration.Directories(
      state: state, plugins: plugins, staging: path("directories.staging") ?? state + "/staging",
      runtime: path("directories.runtime") ?? state + "/run")
    // sun_path of sockaddr_un holds 108 bytes with its terminator.
    if directories.controlSocket.utf8.count > 107 {
      problems.add(
        settings.winning(SettingCatalog.byKey["directories.runtime"]!)?.origin ?? .builtIn,
        pointer: "/directories/runtime",
        "The control socket's path, \(Redaction.quoted(directories.controlSocket)), is longer than the 107 bytes a Unix "
          + "socket can have. Set directories.runtime to a shorter path.")
    }
    return directories
  }

  private static func limits(_ settings: ScalarSettings) -> NodeConfiguration.Limits {
    NodeConfiguration.Limits(
      bodySizeBytesMax: settings.integer("limits.body_size_bytes_max"),
      uriSizeBytesMax: settings.integer("limits.uri_size_bytes_max"),
      batchMessagesMax: settings.integer("limits.batch_messages_max"),
      listPageRecordsMax: settings.integer("limits.list_page_records_max"),
      listSortRecordsMax: settings.integer("limits.list_sort_records_max"),
      listSortSizeBytesMax: settings.integer("limits.list_sort_size_bytes_max"),
      listPatternTimeMs: settings.integer("limits.list_pattern_time_ms"),
      inFlightPerSlotMax: settings.integer("limits.in_flight_per_slot_max"),
      parkedRequestsMax: settings.integer("limits.parked_requests_max"),
      requestTimeoutMs: settings.integer("limits.request_timeout_ms"),
      reloadTimeoutMs: settings.integer("limits.reload_timeout_ms"),
      retainedImagesMax: settings.integer("limits.retained_images_max"),
      stateHandoverSizeBytesMax: settings.integer("limits.state_handover_size_bytes_max"),
      pluginSizeBytesMax: settings.integer("limits.plugin_size_bytes_max"),
      historyReceiptsMax: settings.integer("limits.history_receipts_max"))
  }

  private static func repair(_ settings: ScalarSettings) -> NodeConfiguration.Repair {
    NodeConfiguration.Repair(
      journalSizeBytesMax: settings.integer("repair.journal_size_bytes_max"),
      batchUnitsMax: settings.integer("repair.batch_units_max"))
  }

  private static func feed(_ settings: ScalarSettings) -> NodeConfiguration.Feed {
    NodeConfiguration.Feed(
      recordsMax: settings.integer("feed.records_max"), sizeBytesMax: settings.integer("feed.size_bytes_max"),
      itemSizeBytesMax: settings.integer("feed.item_size_bytes_max"),
      subscriptionsMax: settings.integer("feed.subscriptions_max"), retainMs: settings.integer("feed.retain_ms"))
  }

  private static func reload(_ settings: ScalarSettings) -> NodeConfiguration.Reload {
    NodeConfiguration.Reload(
      settleMs: settings.integer("reload.settle_ms"), removalGraceMs: settings.integer("reload.removal_grace_ms"),
      startTimeoutMs: settings.integer("reload.start_timeout_ms"),
      probeTimeoutMs: settings.integer("reload.probe_timeout_ms"),
      drainSoftMs: settings.integer("reload.drain_soft_ms"), drainHardMs: settings.integer("reload.drain_hard_ms"),
      cancelGraceMs: settings.integer("reload.cancel_grace_ms"),
      handoverTimeoutMs: settings.integer("reload.handover_timeout_ms"),
      parkTimeoutMs: settings.integer("reload.park_timeout_ms"),
      probationMs: settings.integer("reload.probation_ms"),
      probationCalls: settings.integer("reload.probation_calls"),
      upgradeAtImageLimit: settings.boolean("reload.upgrade_at_image_limit"),
      upgradeTimeoutMs: settings.integer("reload.upgrade_timeout_ms"), watch: settings.boolean("reload.watch"))
  }

  private static func isolation(_ settings: ScalarSettings) -> NodeConfiguration.Isolation {
    NodeConfiguration.Isolation(
      policy: NodeConfiguration.Isolation.Policy(rawValue: settings.text("isolation.default"))!,
      sharedMemorySizeBytes: settings.integer("isolation.shared_memory_size_bytes"),
      waitingSizeBytesMax: settings.integer("isolation.waiting_size_bytes_max"),
      restartDelayMsMax: settings.integer("isolation.restart_delay_ms_max"),
      crashesMax: settings.integer("isolation.crashes_max"),
      crashWindowMs: settings.integer("isolation.crash_window_ms"),
      breakerOpenMs: settings.integer("isolation.breaker_open_ms"),
      cancelGraceMs: settings.integer("isolation.cancel_grace_ms"))
  }

  private static func log(_ settings: ScalarSettings) -> NodeConfiguration.Log {
    NodeConfiguration.Log(
      level: NodeConfiguration.Log.Level(rawValue: settings.text("log.level"))!,
      format: NodeConfiguration.Log.Format(rawValue: settings.text("log.format"))!)
  }

  private static func checkDrain(_ settings: ScalarSettings, problems: inout ProblemList) {
    let soft = settings.integer("reload.drain_soft_ms")
    let hard = settings.integer("reload.drain_hard_ms")
    guard hard < soft else { return }
    problems.add(
      settings.winning(SettingCatalog.byKey["reload.drain_hard_ms"]!)?.origin ?? .builtIn,
      pointer: "/reload/drain_hard_ms", "The hard limit (\(hard) ms) must not be less than drain_soft_ms (\(soft) ms).")
  }
}
