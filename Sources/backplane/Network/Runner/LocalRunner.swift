import Foundation

/// Runs a network on this machine: a config server unless there is one, the configurations published to it, and every node
/// of the manifest as a child process that is started again when it crashes.
///
/// One thread does everything, waits in one poll, and lives as long as the children: they die with it.
final class LocalRunner {
  struct Settings: Sendable {
    /// This program.
    var executable: String
    /// Nil when the configurations are kept elsewhere.
    var configServer: ServicePlan?
    /// Changes of this file are published.
    var manifestFile: String
    /// After so long a child that was told to end is killed.
    var stopTimeoutMs: Int
    /// Waits until the config server answers.
    var awaitConfigServer: @Sendable () async throws -> Void
    /// Publishes what the manifest says now and gives the nodes that are to run.
    var publish: @Sendable () async throws -> [ServicePlan]
  }

  private enum Phase { case starting, running, stoppingNodes, stoppingConfigServer }

  private static let configServerName = "config-server"
  private static let manifestLookMs: UInt64 = 1_000

  private let settings: Settings
  private let mailbox: RunnerMailbox
  private var phase = Phase.starting
  private var services: [String: RunnerService] = [:]
  /// In the manifest's order, the config server's first.
  private var order: [String] = []
  private var isPublishing = false
  private var mustPublishAgain = false
  private var manifest: FileStamp?
  private var nextLookNs: UInt64 = 0
  private var failure: CommandFailure?
  private var wasToldToEnd = false

  init(_ settings: Settings, _ mailbox: RunnerMailbox) {
    self.settings = settings
    self.mailbox = mailbox
  }

  /// Runs until a signal ends it; throws when the network could not be started at all.
  func run() throws {
    manifest = FileStamp(settings.manifestFile)
    if let plan = settings.configServer {
      add(plan)
      startDue()
      awaitConfigServer()
    } else {
      publish()
    }
    while phase != .stoppingConfigServer || services.values.contains(where: \.isRunning) {
      waitForSomething()
      for event in mailbox.take() { handle(event) }
      for name in order {
        guard let service = services[name] else { continue }
        service.child?.forward()
        if let ending = service.reapIfEnded() { ended(service, ending) }
      }
      startDue()
      killOverdue()
      lookAtManifest()
      advanceStop()
    }
    if let failure { throw failure }
  }

  // MARK: Events

  private func handle(_ event: RunnerMailbox.Event) {
    switch event {
    case .signal(let number):
      switch number {
      case SIGHUP: publish()
      case SIGTERM, SIGINT:
        if wasToldToEnd { endAtOnce(number) }
        wasToldToEnd = true
        beginStop()
      default: break
      }
    case .configServerIsReady:
      isPublishing = false
      publish()
    case .published(let plans):
      isPublishing = false
      guard !isStopping else { return }
      phase = .running
      reconcile(plans)
      if mustPublishAgain { publish() }
    case .failed(let message, let status):
      isPublishing = false
      guard !isStopping else { return }
      if phase == .starting {
        failure = CommandFailure(status, message)
        beginStop()
      } else {
        Self.say("The manifest was not published, and what runs is left as it is: \(message)")
        if mustPublishAgain { publish() }
      }
    }
  }

  private var isStopping: Bool { phase == .stoppingNodes || phase == .stoppingConfigServer }

  private func ended(_ service: RunnerService, _ ending: String) {
    guard !isStopping, !service.isUnwanted else {
      if service.isUnwanted, !isStopping { remove(service.plan.name) }
      return
    }
    if service.isRestarting {
      service.isRestarting = false
      service.dueNs = RunnerChild.nowNs()
      return
    }
    if phase == .starting, service.plan.name == Self.configServerName {
      failure = CommandFailure(
        .unavailable, "the config server \(ending) before it could serve; what it said is above.")
      return beginStop()
    }
    let delayMs = service.backOff()
    Self.say("\(service.plan.name) \(ending); it is started again in \(delayMs) ms")
  }

  // MARK: Children

  private func add(_ plan: ServicePlan) {
    let service = RunnerService(plan)
    service.dueNs = RunnerChild.nowNs()
    services[plan.name] = service
    order.append(plan.name)
  }

  private func remove(_ name: String) {
    services[name] = nil
    order.removeAll { $0 == name }
  }

  /// Makes the children those of `plans`: new ones are started, changed ones started anew, others ended.
  private func reconcile(_ plans: [ServicePlan]) {
    let wanted = Set(plans.map(\.name))
    for name in order where name != Self.configServerName && !wanted.contains(name) {
      guard let service = services[name] else { continue }
      guard service.isRunning else {
        remove(name)
        continue
      }
      service.isUnwanted = true
      service.terminate(afterMs: settings.stopTimeoutMs)
      Self.say("\(name) is no longer in the manifest and is stopped")
    }
    for plan in plans {
      guard let service = services[plan.name] else {
        add(plan)
        continue
      }
      let mustRestart = service.isUnwanted || service.plan.mustRestart(for: plan)
      service.isUnwanted = false
      service.plan = plan
      guard mustRestart, service.isRunning else { continue }
      service.isRestarting = true
      service.terminate(afterMs: settings.stopTimeoutMs)
    }
  }

  private func startDue() {
    guard !isStopping else { return }
    let now = RunnerChild.nowNs()
    for name in order {
      guard let service = services[name], let due = service.dueNs, due <= now else { continue }
      service.dueNs = nil
      do {
        service.child = try RunnerChild(service.plan, executable: settings.executable)
        Self.say("Started \(name) (port \(service.plan.port))")
        if name == Self.configServerName, phase == .running { awaitConfigServer() }
      } catch {
        let delayMs = service.backOff()
        Self.say("\((error as? CommandFailure)?.message ?? "\(error)") It is tried again in \(delayMs) ms.")
      }
    }
  }

  private func killOverdue() {
    let now = RunnerChild.nowNs()
    for service in services.values where service.isRunning {
      guard let kill = service.killNs, kill <= now else { continue }
      service.killNs = nil
      service.child?.signal(SIGKILL)
      Self.say("\(service.plan.name) did not end within \(settings.stopTimeoutMs) ms and is killed")
    }
  }

  // MARK: Publishing

  private func awaitConfigServer() {
    isPublishing = true
    let wait = settings.awaitConfigServer
    mailbox.post {
      try await wait()
      return .configServerIsReady
    }
  }

  private func publish() {
    guard !isStopping else { return }
    if isPublishing {
      mustPublishAgain = true
      return
    }
    mustPublishAgain = false
    isPublishing = true
    let publish = settings.publish
    mailbox.post { .published(try await publish()) }
  }

  /// An editor renames a new file in or writes into the old one: either shows in what the system says of the name.
  private func lookAtManifest() {
    let now = RunnerChild.nowNs()
    guard phase == .running, now >= nextLookNs else { return }
    nextLookNs = now + Self.manifestLookMs * 1_000_000
    let stamp = FileStamp(settings.manifestFile)
    guard stamp != manifest, stamp != nil else { return }
    manifest = stamp
    Self.say("The manifest has changed")
    publish()
  }

  // MARK: The end

  /// Nodes first, so that they can still write at the config server that they are offline.
  private func beginStop() {
    guard !isStopping else { return }
    phase = .stoppingNodes
    for (name, service) in services {
      service.dueNs = nil
      if name != Self.configServerName { service.terminate(afterMs: settings.stopTimeoutMs) }
    }
  }

  private func advanceStop() {
    guard phase == .stoppingNodes else { return }
    let nodes = services.filter { $0.key != Self.configServerName }
    guard !nodes.values.contains(where: \.isRunning) else { return }
    // Of those that are no longer in the manifest it has been said.
    if failure == nil { Self.say("Stopped \(nodes.values.count { !$0.isUnwanted }) nodes") }
    phase = .stoppingConfigServer
    services[Self.configServerName]?.terminate(afterMs: settings.stopTimeoutMs)
  }

  private func endAtOnce(_ number: Int32) -> Never {
    for service in services.values { service.child?.signal(SIGKILL) }
    _exit(128 + number)
  }

  // MARK: Waiting

  private func waitForSomething() {
    var polled = [pollfd(fd: mailbox.bell, events: Int16(POLLIN), revents: 0)]
    for service in services.values {
      guard let child = service.child else { continue }
      polled.append(pollfd(fd: child.process, events: Int16(POLLIN), revents: 0))
      polled.append(pollfd(fd: child.output, events: Int16(POLLIN), revents: 0))
    }
    _ = poll(&polled, nfds_t(polled.count), Int32(clamping: waitMs()))
  }

  private func waitMs() -> UInt64 {
    let now = RunnerChild.nowNs()
    var next = phase == .running ? nextLookNs : .max
    for service in services.values {
      next = min(next, isStopping ? .max : service.dueNs ?? .max, service.isRunning ? service.killNs ?? .max : .max)
    }
    guard next != .max else { return 60_000 }
    return next <= now ? 0 : (next - now) / 1_000_000 + 1
  }

  static func say(_ text: String) { Output.line("[local-runner] \(text)") }
}
