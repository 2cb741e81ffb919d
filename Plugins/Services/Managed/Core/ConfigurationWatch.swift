import ManagedNode

/// The configuration: read, verified, applied.
extension Manager {
  private var document: ManagedDocument {
    .config(operatorKey: identity.operatorKey, nodeId: identity.nodeID)
  }

  /// One look at CONFIG_URL.
  func pollConfiguration() async {
    let isFirst = !hasPolled
    let outcome: Result<Candidate, Trouble>
    do throws(Trouble) {
      guard let record = try await around.store.read(document.uri) else {
        throw Trouble(document.missing.description)
      }
      outcome = .success(try verify(record, isKept: false))
    } catch { outcome = .failure(error) }
    guard !isEnding else { return }
    hasPolled = true
    switch outcome {
    case .success(let candidate):
      around.meter.polled(failed: false)
      confirmedNs = around.clock.monotonicNs
      (pollTrouble, refusal) = (nil, nil)
      complaints.forget("poll")
      await take(candidate, isFirst: isFirst)
    case .failure(let trouble):
      around.meter.polled(failed: true)
      pollTrouble = trouble.description
      refusal = trouble.isRefusal ? trouble.description : nil
      if isFirst {
        await begin(without: trouble)
      } else {
        complain("poll", "[managed] Config poll error: \(trouble)")
      }
    }
    if isFirst { info("[managed] Managed mode active") }
    updateHealth()
  }

  /// Everything that must be right about a record before it is looked at as a configuration.
  private func verify(_ record: StoredRecord, isKept: Bool) throws(Trouble) -> Candidate {
    let configuration: ManagedConfiguration
    do {
      let opened = try document.open(record.data, decryptionKey: identity.recipient)
      do throws(DocumentError) {
        configuration = try ManagedConfiguration(opened.payload.bytes)
      } catch { throw document.invalid(error) }
    } catch { throw Trouble("\(error)", isRefusal: true) }
    guard configuration.nodeId.lowercased() == identity.nodeID else {
      throw Trouble(
        "Config at \(document.uri) is for the node \(configuration.nodeId.prefix(80)), and this node is \(identity.nodeID)",
        isRefusal: true)
    }
    if settings.requiresNewerConfiguration, !isKept, let reason = kept.staleness(record) {
      throw Trouble("Config at \(document.uri) \(reason)", isRefusal: true)
    }
    return Candidate(record: record, configuration: configuration)
  }

  /// There is no configuration to be had: the one of the last time, or none.
  private func begin(without trouble: Trouble) async {
    info("[managed] Config not available yet: \(trouble)")
    if settings.keepsLastConfiguration, inForce == nil, let record = kept.last {
      do throws(Trouble) {
        let candidate = try verify(record, isKept: true)
        info("[managed] Using the configuration that was kept from the last time")
        return await take(candidate, isFirst: true)
      } catch { warning("[managed] The configuration that was kept cannot be used: \(error)") }
    }
    info("[managed] Running with Phase 1 backends; config watcher will retry")
  }

  /// Applies the candidate unless it is in force.
  private func take(_ candidate: Candidate, isFirst: Bool) async {
    if failed == nil, inForce?.record == candidate.record { return }
    let isRetry = failed?.record == candidate.record
    if isFirst {
      info("[managed] Loaded config: \"\(candidate.configuration.name)\" (v1)")
    } else if !isRetry {
      info("[managed] Config change detected, applying...")
    }
    await takeTurn()
    defer { turn.end() }
    guard !isEnding else { return }
    let before = inForce?.configuration
    do throws(Trouble) {
      try await apply(candidate, isFirst: isFirst)
      failed = nil
      complaints.forget("apply")
      info(
        isFirst
          ? "[managed] Backends hot-swapped from config"
          : "[managed] Config applied: \"\(candidate.configuration.name)\"")
      for notice in candidate.configuration.notices where before?.notices.contains(notice) != true {
        warning("[managed] Config notice: \(notice)")
      }
    } catch {
      guard !isEnding else { return }
      failed = (candidate.record, error.description)
      if isFirst {
        warning("[managed] Failed to build backends from config: \(error)")
        info("[managed] Continuing with Phase 1 backends")
        _ = complaints.shouldSay("apply", "\(error)", nowNs: around.clock.monotonicNs)
      } else if complaints.shouldSay("apply", "\(error)", nowNs: around.clock.monotonicNs, once: true) {
        warning("[managed] Failed to apply config: \(error)")
      }
    }
  }

  /// One proposal; a second one without the schema when that may be what is wrong.
  private func apply(_ candidate: Candidate, isFirst: Bool) async throws(Trouble) {
    let current = inForce?.schema
    var schema = current
    var trouble: Trouble?
    do throws(Trouble) {
      schema = try await schemas.load(candidate.configuration, after: current)
    } catch { trouble = error }
    var outcome = try await propose(candidate.configuration, schema)
    if case .refused(let reason) = outcome, trouble == nil, let tried = schema, tried.slot != current?.slot {
      outcome = try await propose(candidate.configuration, current)
      if outcome == .inPlace { (trouble, schema) = (Trouble(reason), current) }
    }
    if case .refused(let reason) = outcome { throw Trouble(reason) }
    report(schema, trouble, after: inForce, isFirst: isFirst)
    inForce = InForce(record: candidate.record, configuration: candidate.configuration, schema: schema)
    schemaTrouble = trouble?.description
    schemas.clean(keeping: schema)
    do throws(Trouble) {
      try kept.mark(candidate.record)
      if settings.keepsLastConfiguration { try kept.keep(candidate.record) } else { kept.forget() }
    } catch { complain("files", "[managed] \(error)") }
    wake()
  }

  /// Proposes a configuration with a schema of it, or with none.
  func propose(_ configuration: ManagedConfiguration, _ schema: LoadedSchema?) async throws(Trouble) -> ProposalVerdict
  {
    let transports = around.node.slots().filter { $0.kind == "transport" && $0.plugin == "org.backplane.http" }
    let transport = transports.first { $0.name == "http" } ?? transports.first
    let json: [UInt8]
    do throws(Trouble) {
      json = try ProposalText.json(configuration, transport: transport?.name, schema: schema?.slot)
    } catch {
      around.meter.applied(failed: true)
      throw error
    }
    let outcome = await around.kernel.propose(json)
    around.meter.applied(failed: outcome != .inPlace)
    return outcome
  }

  /// The peer's lines about schemas.
  private func report(_ schema: LoadedSchema?, _ trouble: Trouble?, after before: InForce?, isFirst: Bool) {
    if let trouble {
      if isFirst {
        warning("[managed] Failed to load schema module: \(trouble)")
        info("[managed] Using Phase 1 schema")
        _ = complaints.shouldSay("schema", "\(trouble)", nowNs: around.clock.monotonicNs)
      } else {
        complainOfSchema(trouble)
      }
      return
    }
    complaints.forget("schema")
    guard schema?.slot != before?.schema?.slot else { return }
    let name = schema.map { $0.url.map { SourceURL.shown($0) } ?? "schemaInline" }
    if isFirst {
      if let name { info("[managed] Schema loaded from \(name)") }
    } else {
      info("[managed] Schema module changed: \(name ?? "none")")
      info("[managed] Client rebuilt with new schema")
    }
  }

  private func complainOfSchema(_ trouble: Trouble) {
    if complaints.shouldSay("schema", "\(trouble)", nowNs: around.clock.monotonicNs, once: true) {
      warning("[managed] Schema module error: \(trouble)")
    }
  }

  /// Looks whether the schema under the configuration's URL is another now, and tries again one that failed.
  func pollSchema() async {
    await takeTurn()
    defer { turn.end() }
    guard !isEnding, let before = inForce else { return }
    do throws(Trouble) {
      guard let schema = try await schemas.load(before.configuration, after: before.schema) else { return }
      if schema.slot == before.schema?.slot, schema.digest == before.schema?.digest {
        inForce?.schema = schema
        schemaTrouble = nil
        complaints.forget("schema")
        return
      }
      if case .refused(let reason) = try await propose(before.configuration, schema) { throw Trouble(reason) }
      report(schema, nil, after: InForce(record: before.record, configuration: before.configuration), isFirst: false)
      inForce?.schema = schema
      schemaTrouble = nil
      schemas.clean(keeping: schema)
    } catch {
      guard !isEnding else { return }
      schemaTrouble = error.description
      complainOfSchema(error)
    }
    updateHealth()
  }
}
