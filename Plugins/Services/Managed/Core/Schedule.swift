/// What is done over and over.
enum Job: CaseIterable, Sendable {
  case configuration
  case heartbeat
  case metrics
  case schema
  case updates
}

/// When what is done.
extension Manager {
  /// Works until it is cancelled. The first look at the configuration comes before everything else, so that the first
  /// heartbeat can speak of it.
  func run() async {
    info("[managed] Node ID: \(identity.nodeID)")
    info("[managed] Operator: \(identity.operatorKey)")
    info("[managed] Config URL: \(settings.place.text)")
    let firstNs = around.clock.monotonicNs
    await pollConfiguration()
    await withTaskGroup { group in
      for job in Job.allCases { group.addTask { await self.repeatJob(job, firstNs) } }
    }
  }

  private func repeatJob(_ job: Job, _ firstNs: UInt64) async {
    var begunNs = firstNs
    switch job {
    // Has been done.
    case .configuration: break
    // The schema came with the configuration, and the window has just begun.
    case .schema, .metrics: begunNs = around.clock.monotonicNs
    case .heartbeat, .updates:
      begunNs = around.clock.monotonicNs
      await perform(job)
    }
    while !Task.isCancelled, !isEnding {
      await sleep(job, sinceNs: begunNs)
      guard !Task.isCancelled, !isEnding else { return }
      begunNs = around.clock.monotonicNs
      await perform(job)
    }
  }

  private func perform(_ job: Job) async {
    switch job {
    case .configuration: await pollConfiguration()
    case .heartbeat: await writeStatus()
    case .metrics: await writeMetrics()
    case .schema: await pollSchema()
    case .updates: await checkForUpdate()
    }
  }

  /// Until the job is due by the interval that holds then: one that changes meanwhile counts at once.
  private func sleep(_ job: Job, sinceNs: UInt64) async {
    while !Task.isCancelled, !isEnding {
      let dueNs = sinceNs &+ intervalNs(job)
      guard around.clock.monotonicNs < dueNs else { return }
      let clock = around.clock
      let nap = Task { await clock.sleep(untilNs: dueNs) }
      sleeping[job] = nap
      await withTaskCancellationHandler {
        await nap.value
      } onCancel: {
        nap.cancel()
      }
      sleeping[job] = nil
    }
  }

  /// The intervals may be others now.
  func wake() {
    for nap in sleeping.values { nap.cancel() }
  }

  /// Nothing is begun any more.
  func end() {
    isEnding = true
    wake()
  }

  func intervalNs(_ job: Job) -> UInt64 {
    let monitoring = inForce?.configuration.monitoring
    let milliseconds: Double =
      switch job {
      case .configuration: monitoring?.configPollIntervalMs ?? Double(settings.configPollIntervalMs)
      case .updates: monitoring?.configPollIntervalMs ?? 2 * Double(settings.configPollIntervalMs)
      case .heartbeat: monitoring?.heartbeatIntervalMs ?? Double(settings.heartbeatIntervalMs)
      case .metrics: Double(settings.metricsIntervalMs)
      case .schema: Double(settings.schemaPollIntervalMs)
      }
    return UInt64(min(max(milliseconds, Self.intervalMsMin), Self.intervalMsMax)) * 1_000_000
  }

  /// A configuration may ask for less; nobody is asked more often.
  private static let intervalMsMin = 100.0
  private static let intervalMsMax = 86_400_000.0
}
