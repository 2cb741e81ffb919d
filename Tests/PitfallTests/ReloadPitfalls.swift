import Foundation
import NodeTesting
import Testing

/// Where the reload logic of other servers broke; each test quotes what was seen there. One lies beside its subject:
/// rollback with newer state, in ProbationTests.
@Suite struct ReloadPitfalls {
  // MARK: "Lost, doubled or re-entrant signals"

  @Test func twoSignalsAtOnce() throws {
    let toy = try ToyNode()
    func hangups() throws -> [TestReceipt] { try toy.node.receipts().filter { $0.trigger.contains("SIGHUP") } }
    toy.node.signal(SIGHUP)
    #expect(try Polling.until { try hangups().first?.outcome == "unchanged" })
    // Each burst ends with a new file and one more signal: that one must be heeded, however busy the node is.
    for round in 2..<6 {
      let before = try hangups().count
      for _ in 0..<(round == 2 ? 1 : 20) { toy.node.signal(SIGHUP) }
      try toy.drop(Toy(version: "\(round).0.0"))
      toy.node.signal(SIGHUP)
      #expect(try toy.comesToServe("\(round).0.0"))
      // Coalesced: at most one for each signal, and no file is taken twice.
      #expect(try hangups().count - before <= 21)
      #expect(toy.events.count { $0 == "\(round).0.0 start" } == 1)
    }
  }

  @Test func signalDuringReload() throws {
    let toy = try ToyNode()
    try toy.drop(Toy(version: "2.0.0", hang: "configure!"))
    let receipt = Shared<TestReceipt?>(nil)
    let asking = TestThreads()
    let node = toy.node
    asking.start {
      let made = try? node.reloadDirectly(now: ["*"])
      receipt.with { $0 = made }
    }
    // The probe of 2.0.0 hangs: the reload is under way while there is a child.
    #expect(Polling.until { node.hasChildren })
    try toy.drop(Toy(version: "3.0.0"))
    toy.node.signal(SIGHUP)
    #expect(try toy.comesToServe("3.0.0"))
    #expect(asking.join(seconds: 20))
    #expect(receipt.with { $0?.refusals.first?.code } == "plugin.probe-timed-out")
    #expect(try toy.node.receipts().contains { $0.trigger.contains("SIGHUP") })
  }

  /// A node that is ending takes nothing new, answers whoever asks, and ends.
  @Test func reloadDuringShutdown() throws {
    let toy = try ToyNode(settings: "limits: {request_timeout_ms: 20000}")
    try toy.set("hold")
    let clients = TestThreads()
    let answer = Shared("")
    let port = toy.node.port
    clients.start {
      let text = (try? HTTPConnection(port: port).get("/api/v1/read/mutable/open/slow/1").text) ?? "nothing"
      answer.with { $0 = text }
    }
    #expect(Polling.until { toy.events.contains("1.0.0 holds") })
    try toy.drop(Toy(version: "2.0.0"))
    toy.node.signal(SIGTERM)
    toy.node.signal(SIGHUP)
    let asked = try toy.node.command(["reload"])
    #expect(asked.status == 69, "\(asked)")
    toy.node.signal(SIGHUP)
    #expect(!toy.events.contains("2.0.0 start"))
    try toy.set("hold", false)
    #expect(clients.join(seconds: 20))
    #expect(answer.with { $0 }.contains("1.0.0"))
    #expect(toy.node.wait() == 0)
    #expect(!toy.events.contains("2.0.0 start"))
  }

  /// A signal while the node is still starting is not lost either, nor does it end the node.
  @Test func signalDuringStart() throws {
    let folder = try TemporaryFolder()
    let node = try NodeProcess(folder: folder, waits: false)
    #expect(Polling.until(everyMs: 1) { node.blocksHangups })
    node.signal(SIGHUP)
    try node.waitUntilHealthy()
    #expect(try Polling.until { try node.receipts().contains { $0.trigger == "SIGHUP" && $0.outcome == "unchanged" } })
  }

  // MARK: "stuck drain"; "Infinite default grace"; "abort as cure"

  @Test func drainStuckForEver() throws {
    let toy = try ToyNode(settings: "limits: {request_timeout_ms: 300}")
    let pid = toy.node.pid
    try toy.set("hold")
    for number in 0..<3 { #expect(try toy.node.read("mutable/open/slow/\(number)").status == 504) }
    // Three generations, each held for ever by a call that is never completed: the next reload does not wait for them.
    for version in ["2.0.0", "3.0.0", "4.0.0"] {
      try toy.drop(Toy(version: version))
      #expect(try toy.reload().outcome == "applied")
      #expect(try toy.servingVersion() == version)
      #expect(try toy.node.read("mutable/open/slow/1").status == 504)
    }
    #expect(try toy.node.metric("backplane_generations_held") == 3)
    let notes = try toy.node.ask(["command": "status"])["notes"] as? [String] ?? []
    #expect(notes.count { $0.contains("is still held") } == 3, "\(notes)")
    #expect(toy.node.pid == pid && toy.node.isRunning)
    try toy.set("hold", false)
    #expect(try Polling.until { try toy.node.metric("backplane_generations_held") == 0 })
    #expect(Polling.until { toy.events.contains("1.0.0 destroy") && toy.events.contains("3.0.0 destroy") })
  }

  /// The hard limit cancels what a plugin would never have completed.
  @Test func drainPastTheHardLimit() throws {
    let node = try UnrulyNode(
      .never, in: .read, keys: "obeys_cancel: true",
      settings: "reload: {watch: false, probation_ms: 0, drain_soft_ms: 200, drain_hard_ms: 400}")
    let client = TestThreads()
    let answer = Shared<Int?>(nil)
    let port = node.node.port
    client.start {
      let status = try? HTTPConnection(port: port).get("/api/v1/read/mutable/open/unruly").status
      answer.with { $0 = status }
    }
    #expect(try Polling.until { try node.node.metric("backplane_calls_in_flight", "slot=\"unruly\"") == 1 })
    try node.drop(stamp: "next")
    #expect(try node.reload().outcome == "applied")
    #expect(client.join(seconds: 20))
    #expect(answer.with { $0 } ?? 0 >= 500)
    #expect(try Polling.until { try node.node.metric("backplane_generations_held") == 0 })
    #expect(try node.node.metric("backplane_instances_wedged_total") == 0)
  }

  /// "long-lived connections keep old generations for hours": a connection holds none, only a request does.
  @Test func longLivedConnections() throws {
    let toy = try ToyNode()
    let connections = try (0..<8).map { _ in try HTTPConnection(port: toy.node.port) }
    for connection in connections { #expect(try connection.get("/api/v1/read/mutable/open/version").status == 200) }
    try toy.drop(Toy(version: "2.0.0"))
    #expect(try toy.reload().outcome == "applied")
    #expect(Polling.until { toy.events.contains("1.0.0 destroy") })
    #expect(try toy.node.metric("backplane_generations_held") == 0)
    for connection in connections {
      let answer = try connection.get("/api/v1/read/mutable/open/version")
      #expect(answer.text.contains("2.0.0") && !answer.closes)
    }
  }

  /// "Unrelated changes drop connections".
  @Test func unrelatedChanges() throws {
    let toy = try ToyNode()
    let connection = try HTTPConnection(port: toy.node.port)
    func asks(_ version: String) throws {
      let answer = try connection.get("/api/v1/read/mutable/open/version")
      #expect(answer.text.contains(version) && !answer.closes, "\(answer)")
    }
    try asks("1.0.0")
    try toy.configure(slots: "  second: {kind: backend, order: 2, url: \"sqlite://\"}")
    #expect(try toy.reload().changes == ["second:added"])
    try asks("1.0.0")
    try toy.drop(Toy(version: "2.0.0"))
    #expect(try toy.reload().changes == ["toy:replaced"])
    try asks("2.0.0")
    try PluginFile.drop(
      BuiltProducts.plugin("schema-permissive"), into: toy.node.pluginsDirectory,
      as: "libbackplane-schema-permissive.so", stamp: "another")
    #expect(try toy.reload().changes == ["schema:replaced"])
    try asks("2.0.0")
    try toy.configure()
    #expect(try toy.reload().changes == ["second:removed"])
    try asks("2.0.0")
  }

  // MARK: What is in flight

  /// "In-flight calls abandoned at plugin stop": they end on the generation that they began on.
  @Test func callsInFlightAtStop() throws {
    let toy = try ToyNode()
    try toy.set("hold")
    let port = toy.node.port
    let answers = Shared<[String]>([])
    let clients = TestThreads()
    for number in 0..<12 {
      clients.start {
        let text: String
        do {
          let connection = try HTTPConnection(port: port)
          let answer =
            number < 8
            ? try connection.get("/api/v1/read/mutable/open/slow/\(number)")
            : try connection.post("/api/v1/receive", #"{"tx":["mutable://open/slow/\#(number)",1]}"#)
          text = "\(answer.status) \(answer.text)"
        } catch { text = "\(error)" }
        answers.with { $0.append(text) }
      }
    }
    #expect(Polling.until { toy.events.filter { $0 == "1.0.0 holds" }.count == 12 })

    try toy.drop(Toy(version: "2.0.0"))
    #expect(try toy.reload().outcome == "applied")
    // New calls go to the new one, while the old one still has its own.
    #expect(try toy.servingVersion() == "2.0.0")
    #expect(try toy.node.metric("backplane_generations_held") == 1)
    #expect(answers.with { $0 } == [])
    #expect(!toy.events.contains("1.0.0 quiesce"))
    let notes = try toy.node.ask(["command": "status"])["notes"] as? [String] ?? []
    #expect(notes.contains { $0.contains("generation 1 is still held by 12 leases") }, "\(notes)")

    try toy.set("hold", false)
    #expect(clients.join(seconds: 20))
    let all = answers.with { $0 }
    #expect(all.filter { $0.hasPrefix("200") && $0.contains(#""version":"1.0.0""#) }.count == 8, "\(all)")
    #expect(all.filter { $0.hasPrefix("200") }.count == 12, "\(all)")
    #expect(Polling.until { toy.events.last == "1.0.0 destroy" }, "\(toy.events)")
    #expect(toy.events.suffix(3) == ["1.0.0 quiesce", "1.0.0 stop", "1.0.0 destroy"])
    #expect(try Polling.until { try toy.node.metric("backplane_generations_held") == 0 })
  }

  /// "Unload while queued work refers to it": calls that wait for a thread are the old instance's, and are made.
  @Test func queuedWorkAtReload() throws {
    let node = try UnrulyNode(.slow, in: .read, keys: "mode: blocking, delay_ms: 400")
    let clients = TestThreads()
    let answers = Shared<[String]>([])
    let port = node.node.port
    for _ in 0..<12 {
      clients.start {
        let text = (try? HTTPConnection(port: port).get("/api/v1/read/mutable/open/unruly/version").text) ?? "none"
        answers.with { $0.append(text) }
      }
    }
    #expect(try Polling.until { try node.node.metric("backplane_calls_in_flight", "slot=\"unruly\"") ?? 0 > 6 })
    try node.drop(version: "2.0.0")
    #expect(try node.reload().outcome == "applied")
    #expect(clients.join(seconds: 30))
    #expect(answers.with { $0 }.count { $0.contains("1.0.0") || $0.contains("2.0.0") } == 12, "\(answers.with { $0 })")
    #expect(answers.with { $0 }.contains { $0.contains("1.0.0") })
    #expect(try Polling.until { try node.node.metric("backplane_generations_held") == 0 })
  }

  /// "failed load path frees a module it could not unload": what failed after it was opened stays mapped, counted and
  /// harmless, and so does every image whose instances are gone (unload is refused, always).
  @Test func unloadRefused() throws {
    let toy = try ToyNode()
    let first = toy.mappedContents
    try toy.drop(Toy(version: "2.0.0", fail: "start"))
    #expect(try toy.reload().refusals.map(\.code) == ["plugin.start-failed"])
    let afterFailure = toy.mappedContents
    #expect(afterFailure.isSuperset(of: first) && afterFailure.count == first.count + 1)
    try toy.drop(Toy(version: "3.0.0"))
    #expect(try toy.reload().outcome == "applied")
    #expect(Polling.until { toy.events.contains("1.0.0 destroy") })
    #expect(toy.mappedContents.isSuperset(of: afterFailure))
    #expect(try toy.node.metric("backplane_images_retained") == 2)
    #expect(try toy.servingVersion() == "3.0.0")
  }

  /// "Background threads of the old generation keep running": one that stop did not end can do no harm.
  @Test func pluginThreadAfterStop() throws {
    let node = try UnrulyNode(.outlive, in: .start)
    func ignored() throws -> Double { try node.node.metric("backplane_completions_ignored_total") ?? 0 }
    try node.drop(stamp: "next")
    #expect(try node.reload().outcome == "applied")
    #expect(try Polling.until { try node.node.metric("backplane_generations_held") == 0 })
    // The old thread goes on, and what it says is counted and ignored.
    let before = try ignored()
    #expect(try Polling.until { try ignored() > before })
    for number in 0..<50 {
      #expect(try node.node.put("mutable://open/a/\(number)", "\(number)").status == 200)
      #expect(try node.node.read("mutable/open/a/\(number)").text.hasSuffix("\"data\":\(number)}"))
    }
    #expect(node.node.stop() == 0)
  }

  // MARK: Watching

  /// "Config watch on the file, not the directory; both Write and Create are seen for ..data": a mounted volume that is
  /// swung by its symbolic link, for plugins and for the configuration.
  @Test func symlinkSwing() throws {
    let toy = try ToyNode(watches: true)
    let directory = toy.node.pluginsDirectory
    for version in ["1.0.0", "2.0.0"] {
      try FileManager.default.createDirectory(atPath: "\(directory)/..\(version)", withIntermediateDirectories: true)
      try PluginFile.drop(
        try Toy(version: version).build(in: toy.folder), into: "\(directory)/..\(version)", as: Toy.file)
    }
    #expect(symlink("..1.0.0", "\(directory)/..data") == 0)
    #expect(symlink("..data/\(Toy.file)", "\(directory)/.link") == 0)
    #expect(rename("\(directory)/.link", "\(directory)/\(Toy.file)") == 0)
    #expect(try toy.reload().generation >= 1)
    #expect(try toy.servingVersion() == "1.0.0")
    #expect(symlink("..2.0.0", "\(directory)/..data_new") == 0)
    #expect(rename("\(directory)/..data_new", "\(directory)/..data") == 0)
    #expect(try toy.comesToServe("2.0.0"))

    let drops = toy.folder.path + "/conf.d"
    try toy.folder.write("{}", to: "conf.d/..one/extra.yaml")
    try toy.folder.write(
      "slots: {second: {kind: backend, order: 2, url: \"memory://\"}}", to: "conf.d/..two/extra.yaml")
    #expect(symlink("..one", "\(drops)/..data") == 0)
    #expect(symlink("..data/extra.yaml", "\(drops)/extra.yaml") == 0)
    #expect(try ["applied", "unchanged"].contains(toy.reload().outcome))
    #expect(symlink("..two", "\(drops)/..data_new") == 0)
    #expect(rename("\(drops)/..data_new", "\(drops)/..data") == 0)
    #expect(try Polling.until { try toy.node.slotNames().contains("second") })
  }

  /// A file that goes and comes back within the grace was never gone; one that stays away is missed.
  @Test func removalAndReAddWithinTheGrace() throws {
    let toy = try ToyNode(watches: true)
    try toy.folder.write("reload: {removal_grace_ms: 3000}", to: "conf.d/grace.yaml")
    #expect(["applied", "unchanged"].contains(try toy.reload().outcome))
    let new = try Toy(version: "2.0.0").build(in: toy.folder)
    #expect(unlink(toy.file()) == 0)
    // A reload in between sees that it is gone, says so, and leaves it at that.
    let between = try toy.node.reloadDirectly()
    #expect(between.outcome == "unchanged" && between.refusals.isEmpty, "\(between)")
    #expect(between.notes.contains { $0.contains(Toy.file) && $0.contains("reload.removal_grace_ms") }, "\(between)")
    try PluginFile.drop(new, into: toy.node.pluginsDirectory, as: Toy.file)
    #expect(try toy.comesToServe("2.0.0"))
    #expect(try toy.node.receipts().allSatisfy { $0.refusals.isEmpty })

    #expect(unlink(toy.file()) == 0)
    func missed() throws -> TestReceipt? {
      try toy.node.receipts().first { $0.refusals.contains { $0.code == "slot.plugin-missing" } }
    }
    #expect(try Polling.until { try missed() != nil })
    #expect(try missed()?.trigger == "plugins directory")
    // Whoever removes a file does not want to lose the service: it goes on.
    #expect(try toy.servingVersion() == "2.0.0")
    // `--now` does not wait for the grace.
    try PluginFile.drop(new, into: toy.node.pluginsDirectory, as: Toy.file)
    #expect(try Polling.until { try toy.node.reloadDirectly().refusals.isEmpty })
    #expect(unlink(toy.file()) == 0)
    #expect(try toy.reload().refusals.map(\.code) == ["slot.plugin-missing"])
  }

  /// A file that is being written for long holds up nobody else, its predecessor serves, and it is taken at its end though
  /// nobody asks again.
  @Test func aFileThatIsStillBeingWritten() throws {
    let toy = try ToyNode()
    try toy.folder.write("reload: {settle_ms: 1500}", to: "conf.d/settle.yaml")
    #expect(["applied", "unchanged"].contains(try toy.reload().outcome))
    let new = try read(try Toy(version: "2.0.0").build(in: toy.folder))
    try overwrite(toy.file(), Array(new.prefix(1000)))
    let isOver = Shared(false)
    let writing = TestThreads()
    let path = toy.file()
    writing.start {
      // One byte again and again: the inode changes, the content does not.
      let descriptor = open(path, O_WRONLY | O_CLOEXEC)
      while !isOver.with({ $0 }) {
        _ = pwrite(descriptor, [new[0]], 1, 0)
        usleep(20_000)
      }
      _ = pwrite(descriptor, new, new.count, 0)
      close(descriptor)
    }
    // Another file by name, again and again while the first is being written.
    for number in 0..<3 {
      try PluginFile.drop(
        BuiltProducts.plugin("schema-permissive"), into: toy.node.pluginsDirectory,
        as: "libbackplane-schema-permissive.so", stamp: "\(number)")
      let receipt = try toy.node.reloadDirectly(now: [toy.file("libbackplane-schema-permissive.so")])
      #expect(receipt.changes == ["schema:replaced"] && receipt.refusals.isEmpty, "\(receipt)")
      #expect(receipt.notes.contains { $0.contains(Toy.file) && $0.contains("still being written") }, "\(receipt)")
      #expect(try toy.servingVersion() == "1.0.0")
    }
    isOver.with { $0 = true }
    #expect(writing.join(seconds: 10))
    #expect(try toy.comesToServe("2.0.0"))
    #expect(try toy.node.receipts().allSatisfy { $0.refusals.isEmpty })
  }

  /// Whoever asks for a reload sees the file that was copied in just before, though it has to settle first.
  @Test func aReloadRightAfterACopy() throws {
    let toy = try ToyNode()
    try toy.folder.write("reload: {settle_ms: 600}", to: "conf.d/settle.yaml")
    #expect(["applied", "unchanged"].contains(try toy.reload().outcome))
    try overwrite(toy.file(), try read(try Toy(version: "2.0.0").build(in: toy.folder)))
    #expect(try toy.node.reloadDirectly().changes == ["toy:replaced"])
  }
}
