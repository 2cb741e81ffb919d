import ManagedNode
import NIOPosix
import NIOSSL
import PluginAPI
import Synchronization

/// Managed mode: a node that configures itself over the protocol.
///
/// Everything happens in one task on one thread, which `nodeReady` begins and `quiesce` ends: the node serves whether a
/// configuration can be had or not.
public final class Managed: Service {
  /// The life cycle alone; the work has a thread of its own.
  public static var threads: Int { 1 }

  private struct Running: Sendable {
    let group: MultiThreadedEventLoopGroup
    let thread: OwnThread
    let requests: WebClient
    let downloads: WebClient
    let meter: HostMeter
    var manager: Manager?
    var work: Task<Void, Never>?
  }

  private let context: Context
  /// Nil in a self-test, which manages nothing.
  private let settings: ManagedSettings?
  private let running = Mutex<Running?>(nil)

  public init(_ configuration: ManagedSlot, _ context: Context) throws {
    self.context = context
    settings =
      context.purpose == .test && configuration.configURL == nil ? nil : try ManagedSettings(configuration)
  }

  public func start() async throws {
    guard let settings else { throw Failure.invalid("managed mode has no config_url") }
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    var trusted = TLSConfiguration.makeClientConfiguration()
    trusted.minimumTLSVersion = .tlsv12
    var downloads = trusted
    if !settings.authorities.isEmpty {
      trusted.trustRoots = .certificates(settings.authorities)
      downloads.additionalTrustRoots = [.certificates(settings.authorities)]
    }
    let made = Running(
      group: group, thread: OwnThread(),
      requests: WebClient(
        group,
        WebClient.Limits(timeoutMs: settings.requestTimeoutMs, sizeBytesMax: RemoteStore.recordSizeBytesMax),
        tls: trusted),
      downloads: WebClient(
        group,
        WebClient.Limits(
          timeoutMs: settings.downloadTimeoutMs, sizeBytesMax: settings.downloadSizeBytesMax, redirectsMax: 5),
        tls: downloads),
      meter: HostMeter(context))
    running.withLock { $0 = made }
  }

  public func nodeReady(_ deadline: Deadline) async throws {
    guard let settings else { return }
    running.withLock { running in
      guard let made = running, made.work == nil else { return }
      let context = context
      let work = Task(executorPreference: made.thread) { [weak self] in
        let manager = Manager(settings, Self.surroundings(settings, context, made))
        guard let self, self.adopt(manager) else { return }
        await manager.run()
      }
      running?.work = work
    }
  }

  /// False when it is too late to begin.
  private func adopt(_ manager: Manager) -> Bool {
    running.withLock { running in
      if Task.isCancelled || running == nil { return false }
      running?.manager = manager
      return true
    }
  }

  private static func surroundings(_ settings: ManagedSettings, _ context: Context, _ made: Running) -> Surroundings {
    let report = HostReport(observe: context.observe)
    let place = settings.place
    // Asked over the network, this node would wait for itself; and it is still itself on another port.
    let isSelf = report.listeningPorts().contains(place.port) && OwnAddresses.isOwn(place.host)
    let store: any ManagementStore =
      isSelf ? LocalStore(node: context.node, name: place.text) : RemoteStore(place: place, client: made.requests)
    return Surroundings(
      store: store, kernel: KernelProposals(context: context), node: report,
      clock: LoopClock(loop: made.group.next()), downloads: WebDownloads(client: made.downloads),
      journal: HostJournal(log: context.log), meter: made.meter, files: StateFiles(context.stateDirectory))
  }

  public func nodeEnding(_ deadline: Deadline) async {
    guard let manager = running.withLock({ $0?.manager }) else { return }
    await manager.writeOffline()
  }

  /// Begins nothing more. What is open, a proposal perhaps, is waited for in `stop`: by then the host has ended it.
  public func quiesce(_ deadline: Deadline) async {
    let (manager, work) = running.withLock { ($0?.manager, $0?.work) }
    work?.cancel()
    await manager?.end()
  }

  public func stop() async {
    let old = running.withLock { running in
      defer { running = nil }
      return running
    }
    guard let old else { return }
    old.work?.cancel()
    await old.manager?.end()
    await old.work?.value
    await old.requests.shutDown()
    await old.downloads.shutDown()
    try? await old.group.shutdownGracefully()
    old.thread.join()
  }

  /// Signs and opens: what must work in this image before a node is trusted to it.
  public func selfTest(scratchDirectory: String) async throws {
    try SelfTest.run(scratchDirectory)
  }
}

/// The host's log: what varies stands in the line, because the lines are the peer's.
struct HostJournal: Journal {
  let log: Log

  func info(_ line: String) { log.info(line) }
  func warning(_ line: String) { log.warning(line) }
}
