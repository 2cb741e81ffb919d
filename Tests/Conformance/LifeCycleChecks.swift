import PluginAPI
import PluginTestHost

/// The walk through the states, in the orders that the kernel takes it.
struct LifeCycleChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let cyclesCount = 20
  private static let instancesCount = 8

  /// False: the plugin cannot be started, so its kinds cannot be checked.
  func run() async -> Bool {
    let isStartable = await bench.recording.check("life-cycle.full") {
      try await bench.serving { host in try await host.quiesce() }
      return ""
    }
    await unstarted()
    guard isStartable else { return false }
    await order()
    await instances()
    await strangers()
    await selfTest()
    return true
  }

  private func unstarted() async {
    await bench.recording.check("life-cycle.destroy-unstarted") {
      let bare = try bench.created()
      bare.destroy()
      bench.recording.add(bare.violations)
      let directory = try bench.makeDirectory()
      defer { bench.remove(directory) }
      let configured = try bench.configured(in: directory)
      configured.destroy()
      bench.recording.add(configured.violations)
      return ""
    }
  }

  private func order() async {
    await bench.recording.check("life-cycle.configure-again") {
      let directory = try bench.makeDirectory()
      defer { bench.remove(directory) }
      let host = try bench.configured(in: directory)
      // The last configuration that was accepted holds, so a refused one changes nothing.
      _ = try? host.configure(#"{"conformance_unknown_key":1}"#, stateDirectory: directory)
      try host.configure(bench.plugin.effectiveConfiguration, stateDirectory: directory)
      try await host.start()
      try await bench.finish(host)
      return ""
    }
    await bench.recording.check("life-cycle.stop-without-quiesce") {
      try await bench.serving { _ in }
      return ""
    }
  }

  private func instances() async {
    await bench.recording.check("life-cycle.many-instances") {
      var hosts: [TestHost] = []
      var directories: [String] = []
      defer { for directory in directories { bench.remove(directory) } }
      do {
        for _ in 0..<LifeCycleChecks.instancesCount {
          let directory = try bench.makeDirectory()
          directories.append(directory)
          let host = try bench.configured(in: directory)
          hosts.append(host)
          try await host.start()
        }
        let selves = Set(hosts.map { UnsafeRawPointer($0.plugin) })
        try require(selves.count == hosts.count, "create returned the same table for two instances")
        // The first goes while the others stay.
        try await bench.finish(hosts.removeFirst())
        for host in hosts.dropFirst() { try await host.quiesce() }
      } catch {
        for host in hosts { try? await bench.finish(host) }
        throw error
      }
      for host in hosts { try await bench.finish(host) }
      return "\(LifeCycleChecks.instancesCount) at the same time"
    }
  }

  /// Names that the plugin never gave or got.
  private func strangers() async {
    await bench.recording.check("extension.unknown") {
      try await bench.serving { host in
        let ids = [
          "", "backplane", "backplane.nothing/1", "com.example.nothing/1", "backplane.backend/999", "backplane.schema/",
          "backplane.transport/1\0", String(repeating: "x", count: 4_096),
        ]
        for id in ids {
          let table = host.extensionTable(id, as: UInt32.self)
          try require(
            table == nil, "extension(\"\(id.prefix(60))\") is not NULL; an id that the plugin does not know is")
        }
        for kind in bench.plugin.kinds {
          let id = "backplane.\(kind)/1"
          try require(
            host.extensionTable(id, as: UInt32.self) == host.extensionTable(id, as: UInt32.self),
            "extension(\"\(id)\") answered another table at another call")
        }
      }
      return ""
    }
    await bench.recording.check("cancel.unknown-token") {
      try await bench.serving { host in
        let table = host.plugin.pointee
        for token: bp_token in [0, 1, 0xFFFF_FFFF, .max] {
          table.cancel?(host.pluginSelf, token)
          table.grant?(host.pluginSelf, token, 1)
        }
      }
      return bench.plugin.kinds.isEmpty ? "" : "harmless"
    }
  }

  private func selfTest() async {
    let probe = try? bench.created(.test)
    defer { probe?.destroy() }
    guard probe?.extensionTable("backplane.self_test/1", as: bp_self_test.self) != nil else { return }
    await bench.recording.check("self-test") {
      let directory = try bench.makeDirectory()
      defer { bench.remove(directory) }
      let host = try bench.configured(in: directory, .test)
      defer { host.destroy() }
      try await host.selfTest(scratchDirectory: directory)
      bench.recording.add(host.violations)
      return ""
    }
  }

  /// Last, when everything that the runtime makes once has been made.
  func runResources() async {
    guard bench.ownsProcess else { return }
    await bench.recording.check("life-cycle.resources") {
      try await bench.serving { _ in }
      let before = ProcessCounts.now()
      for _ in 0..<LifeCycleChecks.cyclesCount {
        try await bench.serving { host in
          if bench.plugin.kinds.contains("transport") { try await TransportChecks(bench).touch(host) }
          if bench.plugin.kinds.contains("service") { try await ServiceChecks(bench).touch(host) }
          try await host.quiesce()
        }
      }
      if let grown = await before.growth(ofAtLeast: LifeCycleChecks.cyclesCount / 2) {
        throw Problem("over \(LifeCycleChecks.cyclesCount) cycles from create to destroy \(grown)")
      }
      return "\(LifeCycleChecks.cyclesCount) cycles left no threads and no descriptors"
    }
  }
}
