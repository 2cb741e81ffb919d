#if SIMULATION
import BackplaneABI
import Glibc
import SimulatedSystem

@testable import Kernel

/// One run: a node, its clients, its operators and its plugins, for as many steps as the seed says.
final class Simulation {
  struct Outcome {
    var steps = 0
    var switches: UInt64 = 0
    var requests = 0
    var receipts = 0
    var checksum: UInt64 = 0
  }

  private let node: SimulatedNode
  private let style: Style
  private var clients: [Client]
  private var isPumping = true
  private var pumps = 0

  private enum Event {
    case begin, cancel, turns, time, drop, dropOld, reconfigure, hint, reload, rollBack, burst, nonsense, slots
  }

  /// Runs a seed to its end. Does not return when an invariant is violated.
  static func run(seed: UInt64, steps: Int?) -> Outcome {
    simulation_begin(seed, 3_000_000)
    let style = Style(steps: steps)
    Report.trace("\(style)")
    let simulation = Simulation(style)
    return simulation.run()
  }

  private init(_ style: Style) {
    self.style = style
    node = SimulatedNode(style)
    let node = node
    clients = (0..<style.clients).map { _ in Client(node) }
  }

  private func run() -> Outcome {
    startPump()
    node.start()
    var steps = 0
    if node.isUp {
      for _ in 0..<style.steps {
        happen()
        node.invariants.check()
        Pause.turn()
      }
      steps = style.steps
      if !style.endsAbruptly { settle() }
    }
    end()
    var outcome = Outcome(steps: steps)
    outcome.switches = simulation_switches()
    outcome.requests = node.requests.count
    outcome.receipts = node.receipts
    outcome.checksum = simulation_checksum()
    return outcome
  }

  // MARK: Steps

  private func happen() {
    let reloads = style.reloadWeight
    let event = Dice.weighted([
      (40, Event.begin), (style.hasCancels ? 4 : 0, .cancel), (20, .turns), (8, .time), (reloads, .drop),
      (reloads / 2, .dropOld), (reloads / 2, .reconfigure), (reloads, .hint), (reloads / 2, .reload),
      (style.hasRollbacks ? 2 : 0, .rollBack), (style.hasBursts ? 4 : 0, .burst), (2, .nonsense), (1, .slots),
    ])
    switch event {
    case .begin: clients.filter(\.isFree).first?.begin()
    case .cancel: Dice.pick(clients).cancel()
    case .turns: for _ in 0..<Dice.below(30) { Pause.turn() }
    case .time: simulation_advance(Dice.time(msMax: 1000))
    case .drop:
      let trouble = Dice.percent(style.troublePercent) ? Dice.pick(Content.Trouble.allCases) : nil
      node.shelf.drop(Dice.pick(node.shelf.roles), trouble: trouble)
      node.hint()
    case .dropOld:
      node.shelf.dropOld(Dice.pick(node.shelf.roles))
      node.hint()
    case .reconfigure:
      node.shelf.reconfigure(Dice.pick(node.shelf.roles))
      node.hint()
    case .hint: if Dice.percent(50) { node.hint() } else { node.hintLater() }
    case .reload:
      let losesState = Dice.percent(style.losesStatePercent)
      let retries = Dice.percent(20)
      node.operate { $0.reload("control", losesState: losesState, retries: retries) }
    case .rollBack:
      let slots = Dice.percent(50) ? nil : [Dice.pick(node.shelf.roles).rawValue]
      node.operate { $0.rollBack(slots) }
    case .burst: for client in clients where client.isFree { client.burst(60) }
    case .nonsense: complainAboutNothing()
    case .slots:
      if style.layout == .both || Dice.percent(50) { node.shelf.toggleSlot() } else { node.shelf.togglePolicy() }
      node.hint()
    }
  }

  /// Completions of tokens that nobody has, or somebody else.
  private func complainAboutNothing() {
    guard !node.plugins.isEmpty else { return }
    let plugin = Dice.pick(node.plugins)
    // Of a sequence that is never reached.
    let token = simulation_random() | 1 << 60
    plugin.complete(token, BP_OK, bp_read_result.self)
  }

  /// The threads of the plugins: each ends one open call after the other.
  private func startPump() {
    for _ in 0..<2 {
      pumps += 1
      nonisolated(unsafe) let simulation = self
      let thread = Thread.start(name: "plugins") {
        simulation.pump()
        simulation.pumps -= 1
      }
      pthread_detach(thread!)
    }
  }

  private func pump() {
    while isPumping {
      if Dice.percent(70), let call = node.calls.take(evenStuck: false) {
        call.plugin.byItself { call.finish() }
        Pause.turn()
      } else if Dice.percent(30) {
        simulation_sleep(Dice.time(msMax: 20))
      } else {
        node.calls.wait(ms: 500)
      }
    }
  }

  // MARK: The end

  private func sleep(ms: UInt64) { simulation_sleep(ms * 1_000_000) }

  /// Nothing new happens: what has begun ends, and everything that was asked for has been done.
  private func settle() {
    Report.trace("settle")
    // Until then every request has been answered, whatever plugins do.
    sleep(ms: UInt64(style.requestTimeoutMs) * 3 + 100)
    node.invariants.areAnswered(by: simulation_now_ns(), "in time")
    var rounds = 0
    while node.isReloading || node.operators > 0 {
      sleep(ms: 100)
      rounds += 1
      Report.require(rounds < 3000, "a reload does not end")
    }
    // Hints for later, and probations.
    sleep(ms: 1000)
    while node.isReloading { sleep(ms: 100) }
    Report.require(
      node.cataloguedVersion == node.shelf.version,
      "a hint was lost: version \(node.shelf.version) of the shelf was never looked at, only \(node.cataloguedVersion)"
    )
    isWhatWasAskedFor()
    readBack()
  }

  /// What serves is what lies on the shelf, or the last receipt says why not.
  private func isWhatWasAskedFor() {
    guard let receipt = node.reload("the last") else { Report.violated("the last reload has no receipt") }
    let configuration = node.shelf.configuration()
    guard receipt.refusals.isEmpty else { return }
    guard let published = node.reconciler.published else { Report.violated("nothing is published") }
    Report.require(
      node.reconciler.configuration?.node == configuration.node, "a configuration was neither taken nor refused")
    for (slot, role) in zip(configuration.node.slots, node.shelf.roles) {
      guard let instance = published.instance(slot: slot.name) else {
        Report.violated("slot '\(slot.name)' is not served, and no receipt says why")
      }
      Report.require(
        instance.image.contentHash == node.shelf.current[role]!.plugin.contentHash && instance.slot.json == slot.json,
        "slot '\(slot.name)' has \(instance.image.contentHash), and no receipt says why")
    }
  }

  /// Every acknowledged write is there.
  private func readBack() {
    guard style.isComplete, let published = node.reconciler.published, published.missing.isEmpty else { return }
    let isWedged = published.slots.contains { $0.state == .wedged }
    for uri in 0..<style.uris {
      let name = "mutable://open/k\(uri)"
      var found: Int?
      for backend in published.backends where found == nil {
        found = (node.plugin(of: backend) as? SimulatedBackend)?.record(name)
      }
      guard !isWedged else { continue }
      node.ledger.endRead(uri: uri, found, node.ledger.beginRead(uri: uri), isLinear: true, "at the end")
    }
  }

  private func end() {
    let isClean = node.shutDown(timeoutMs: 4000)
    Report.trace("shut down, \(isClean ? "clean" : "with something left")")
    node.hungRelease.set(true)
    sleep(ms: 100)
    isPumping = false
    while pumps > 0 { sleep(ms: 10) }
    for request in node.requests where !request.isAnswered {
      Report.violated("\(request.name) was never answered")
    }
    guard isClean else {
      // It says so, and the process ends; but somebody must be to blame.
      return Report.require(
        node.hangs > 0 || style.stuckPercent > 0 || node.hasOverdue,
        "the node does not end, and no plugin holds it up")
    }
    node.invariants.isOver()
    // Threads that a wedged instance was given are written off with it.
    if node.plugins.contains(where: { $0.instance.state == .wedged }) { return }
    var rounds = 0
    while simulation_threads() > 1, rounds < 100 {
      sleep(ms: 1000)
      rounds += 1
    }
    if simulation_threads() > 1 {
      simulation_print_threads()
      Report.violated("\(simulation_threads() - 1) threads are left at the end")
    }
    if !simulation_end() { Report.violated("threads are left") }
  }
}
#endif
