import Foundation
import NodeTesting
import Testing

@Suite struct AsAService {
  private func monotonicMicroseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
  }

  @Test func theServiceManagerIsToldOfEveryStep() throws {
    let folder = try TemporaryFolder()
    let manager = try NotifySocket(in: folder)
    let node = try NodeProcess(folder: folder, environment: ["NOTIFY_SOCKET": manager.path])
    #expect(manager.next()["READY"] == "1")
    for _ in 0..<2 {
      let before = monotonicMicroseconds()
      node.signal(SIGHUP)
      let reloading = manager.next()
      #expect(reloading["RELOADING"] == "1")
      // systemd.service(5): in the same datagram, and not older than the signal.
      let stamp = reloading["MONOTONIC_USEC"].flatMap { UInt64($0) } ?? 0
      #expect(stamp >= before && stamp <= monotonicMicroseconds())
      let ready = manager.next()
      #expect(ready["READY"] == "1")
      #expect(ready["STATUS"]?.contains("generation 1: unchanged") == true)
    }
    node.signal(SIGTERM)
    let stopping = manager.next()
    #expect(stopping["STOPPING"] == "1")
    // A drain may take half a minute by default, and the manager should not lose patience meanwhile.
    #expect((stopping["EXTEND_TIMEOUT_USEC"].flatMap { Int($0) } ?? 0) >= 30_000_000)
    #expect(node.wait() == 0)
  }

  @Test func aRefusedReloadIsStillReportedAsDone() throws {
    let folder = try TemporaryFolder()
    let manager = try NotifySocket(in: folder)
    let node = try NodeProcess(
      folder: folder, environment: ["NOTIFY_SOCKET": manager.path],
      configuration: "slots: {main: {kind: backend, url: \"memory://\"}}\nreload: {watch: false}")
    #expect(manager.next()["READY"] == "1")
    try folder.write("slots: [", to: "backplane.yaml")
    node.signal(SIGHUP)
    #expect(manager.next()["RELOADING"] == "1")
    let ready = manager.next()
    #expect(ready["READY"] == "1" && ready["STATUS"]?.contains("refused") == true, "\(ready)")
  }

  @Test func sigtermLetsRequestsFinish() throws {
    let toy = try ToyNode()
    try toy.set("hold")
    let answer = Shared("")
    let client = TestThreads()
    let port = toy.node.port
    client.start {
      let text = (try? HTTPConnection(port: port).get("/api/v1/read/mutable/open/slow/1")).map {
        "\($0.status) \($0.text)"
      }
      answer.with { $0 = text ?? "nothing" }
    }
    #expect(Polling.until { toy.events.contains("1.0.0 holds") })
    toy.node.signal(SIGTERM)
    // It no longer accepts, so it has begun to drain; then the call may end.
    #expect(
      Polling.until {
        do {
          _ = try HTTPConnection(port: port, timeoutSeconds: 1).get("/health/live")
          return false
        } catch { return true }
      })
    try toy.set("hold", false)
    #expect(client.join(seconds: 20))
    #expect(answer.with { $0 }.hasPrefix("200"), "\(answer.with { $0 })")
    #expect(toy.node.wait() == 0)
    #expect(toy.events.last == "1.0.0 destroy")
  }

  @Test func aSecondSigtermEndsAtOnce() throws {
    let toy = try ToyNode(Toy(hang: "quiesce"))
    toy.node.signal(SIGTERM)
    #expect(Polling.until { toy.events.contains("1.0.0 quiesce") })
    toy.node.signal(SIGTERM)
    #expect(toy.node.wait() == 128 + SIGTERM)
  }

  @Test func aSecondSignalOfTheOtherKindEndsAtOnceToo() throws {
    let toy = try ToyNode(Toy(hang: "quiesce"))
    toy.node.signal(SIGTERM)
    #expect(Polling.until { toy.events.contains("1.0.0 quiesce") })
    // Neither of these is a reason to end sooner.
    toy.node.signal(SIGHUP)
    toy.node.signal(SIGUSR1)
    #expect(Polling.until { toy.node.log.contains("notice status ") })
    #expect(toy.node.isRunning)
    toy.node.signal(SIGINT)
    #expect(toy.node.wait() == 128 + SIGINT)
  }

  @Test func aSecondSigtermEndsANodeThatHangsWhileItStarts() throws {
    let folder = try TemporaryFolder()
    let steering = folder.path + "/steer"
    for name in ["steer", "plugins.d"] {
      try FileManager.default.createDirectory(atPath: "\(folder.path)/\(name)", withIntermediateDirectories: true)
    }
    try PluginFile.drop(try Toy(hang: "start").build(in: folder), into: folder.path + "/plugins.d", as: Toy.file)
    let node = try NodeProcess(
      folder: folder,
      configuration: "reload: {start_timeout_ms: 600000}\nslots: {toy: {kind: backend, url: \"toy://\(steering)\"}}",
      waits: false)
    func isStarting() -> Bool {
      ((try? String(contentsOfFile: steering + "/events", encoding: .utf8)) ?? "").contains("1.0.0 hangs in start")
    }
    #expect(Polling.until(seconds: 20) { isStarting() })
    node.signal(SIGTERM)
    // Two of a kind would become one as long as the first was not taken.
    #expect(Polling.until { !Self.hasPending(SIGTERM, in: node.pid) })
    #expect(node.isRunning)
    node.signal(SIGTERM)
    #expect(node.wait() == 128 + SIGTERM)
  }

  /// Whether a signal was sent to the process and not taken yet.
  private static func hasPending(_ signal: Int32, in process: Int32) -> Bool {
    let text = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("ShdPnd:") }
    let set = line.flatMap { UInt64($0.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16) } ?? 0
    return set & (1 << UInt64(signal - 1)) != 0
  }

  @Test func sigtermUnderLoadLosesNothing() throws {
    let folder = try TemporaryFolder()
    let configuration = "slots: {main: {kind: backend, url: \"sqlite://\"}}"
    var node = try NodeProcess(folder: folder, configuration: configuration)
    let port = node.port
    let accepted = Shared<[Int: Int]>([:])
    let failures = Shared<[String]>([])
    let clients = TestThreads()
    for client in 0..<8 {
      clients.start {
        var connection: HTTPConnection?
        var isFresh = true
        for number in 0... {
          if connection == nil {
            // Once it ends, the node accepts no more: that is no failure of a request.
            guard let opened = try? HTTPConnection(port: port) else { return }
            connection = opened
            isFresh = true
          }
          do {
            let answer = try connection!.post(
              "/api/v1/receive", "{\"tx\":[\"mutable://open/load/\(client)/\(number)\",\(number)]}")
            if answer.status == 200 {
              accepted.with { $0[client] = number }
            } else {
              failures.with { $0.append("\(answer.status) \(answer.text)") }
            }
            isFresh = false
            if answer.closes { connection = nil }
          } catch HTTPConnection.Trouble.reset where isFresh {
            // It was in the queue of the listening socket, and nobody accepted it any more.
            return
          } catch {
            failures.with { $0.append("\(error)") }
            return
          }
        }
      }
    }
    #expect(Polling.until { accepted.with { counts in counts.count == 8 && counts.values.allSatisfy { $0 > 20 } } })
    node.signal(SIGTERM)
    #expect(clients.join(seconds: 30))
    #expect(node.wait() == 0)
    #expect(failures.with { $0 } == [])
    node = try NodeProcess(folder: folder, configuration: configuration)
    for (client, last) in accepted.with({ $0 }) {
      for number in 0...last {
        let answer = try node.read("mutable/open/load/\(client)/\(number)")
        #expect(answer.status == 200, "\(client)/\(number) of \(last): \(answer.status)")
      }
    }
    #expect(node.stop() == 0)
  }

  @Test func sigusr1LogsTheStatus() throws {
    let node = try NodeProcess(arguments: ["--log-format", "logfmt"])
    node.signal(SIGUSR1)
    #expect(Polling.until { node.log.split(separator: "\n").filter { $0.contains("status of a slot") }.count == 3 })
    #expect(node.log.contains("slot=http"))
    #expect(node.log.contains("health=healthy"))
    #expect(node.stop() == 0)
  }

  @Test func aCredentialOfTheServiceFillsItsPlaceholder() throws {
    let folder = try TemporaryFolder()
    try folder.write("swordfish\n", to: "credentials/database")
    let node = try NodeProcess(
      folder: folder, environment: ["CREDENTIALS_DIRECTORY": folder.path + "/credentials"],
      configuration: "slots: {main: {kind: backend, url: \"sqlite://\(folder.path)/${credential:database}.db\"}}")
    #expect(try node.put("mutable://open/a", "1").status == 200)
    #expect(FileManager.default.fileExists(atPath: folder.path + "/swordfish.db"))
    #expect(node.stop() == 0)
  }

  @Test func underJournaldALineOnStandardErrorBeginsWithItsSeverity() throws {
    let folder = try TemporaryFolder()
    try folder.write("slots: {main: {kind: bakend}}", to: "backplane.yaml")
    func lines(_ stream: String) throws -> [Substring] {
      let script = "JOURNAL_STREAM=\(stream) exec \(BuiltProducts.backplane) serve"
      let (_, errors, status) = try CommandLineTool.run("/bin/sh", ["-c", script], in: folder.path)
      #expect(status == 78)
      let lines = errors.split(separator: "\n")
      #expect(lines.count > 1)
      return lines
    }
    #expect(try lines("$(stat -Lc %d:%i /proc/self/fd/2)").allSatisfy { $0.hasPrefix("<3>") })
    // Inherited from a service, but standard error goes elsewhere.
    #expect(try lines("1:2").allSatisfy { !$0.hasPrefix("<") })
  }

  @Test func aPluginThatHangsDoesNotKeepTheNodeFromEnding() throws {
    let toy = try ToyNode(Toy(hang: "stop"))
    toy.node.signal(SIGTERM)
    #expect(toy.node.wait() == 0)
    #expect(toy.node.log.contains("wedged"))
  }

  @Test func itStartsWithNothingButTheEnvironment() throws {
    // No backend is named: SQLite in the state directory.
    let node = try NodeProcess(environment: ["BACKEND_URL": "", "CORS_ORIGIN": "https://example.org"])
    #expect(try node.put("mutable://open/a", "1").status == 200)
    let answer = try node.read("mutable/open/a")
    #expect(answer.headers["access-control-allow-origin"] == "https://example.org")
    #expect(FileManager.default.fileExists(atPath: node.folder.path + "/data/backplane.sqlite"))
    var facts = stat()
    #expect(stat(node.controlSocket, &facts) == 0)
    #expect(facts.st_mode & 0o777 == 0o600)
    #expect(node.stop() == 0)
    #expect(!FileManager.default.fileExists(atPath: node.controlSocket))
  }

  @Test func whatPreventsTheStartIsSaidAndHasItsExitStatus() throws {
    func ending(
      _ configuration: String?, plugins: [String] = BuiltProducts.bundled, environment: [String: String] = [:],
      arguments: [String] = [], prepare: (TemporaryFolder) throws -> Void = { _ in }
    ) throws -> (Int32, String) {
      let folder = try TemporaryFolder()
      try prepare(folder)
      let node = try NodeProcess(
        folder: folder, plugins: plugins, environment: environment, configuration: configuration, arguments: arguments,
        waits: false)
      return (node.wait(), node.log)
    }
    let usage = try ending(nil, arguments: ["--nonsense"])
    #expect(usage.0 == 64, "\(usage)")
    let invalid = try ending("slots: {main: {kind: bakend}}")
    #expect(invalid.0 == 78 && invalid.1.contains("backplane.yaml:1"), "\(invalid)")
    let unknownKey = try ending("limits: {body_size_bytes_maks: 1}")
    #expect(unknownKey.0 == 78 && unknownKey.1.contains("body_size_bytes_max"), "\(unknownKey)")
    let unreadable = try ending(nil) { folder in
      try FileManager.default.createDirectory(
        atPath: folder.path + "/backplane.yaml", withIntermediateDirectories: true)
    }
    #expect(unreadable.0 == 78 && unreadable.1.contains("backplane.yaml"), "\(unreadable)")
    let missing = try ending(nil, plugins: ["backend-memory", "schema-permissive"])
    #expect(missing.0 == 78 && missing.1.contains("org.backplane.http"), "\(missing)")
    let refused = try ending("slots: {main: {kind: backend, url: \"memory://\", records_maks: 1}}")
    #expect(refused.0 == 78 && refused.1.contains("/records_maks"), "\(refused)")
    let holder = try PortHolder()
    let taken = try ending(nil, environment: ["PORT": "\(holder.port)"])
    #expect(taken.0 == 69 && taken.1.contains("\(holder.port)"), "\(taken)")
    let empty = try TemporaryFolder()
    let nobody = try CommandLineTool.run(BuiltProducts.backplane, ["status"], in: empty.path)
    #expect(nobody.status == 69, "\(nobody)")
  }

  @Test func theHistoryIsBoundedAndSurvivesARestart() throws {
    let folder = try TemporaryFolder()
    let configuration = "limits: {history_receipts_max: 5}\nreload: {watch: false}"
    var node = try NodeProcess(folder: folder, configuration: configuration)
    for _ in 0..<14 { #expect(try node.reloadDirectly().outcome == "unchanged") }
    let receipts = try node.receipts()
    #expect(receipts.map(\.id) == [15, 14, 13, 12, 11])
    let lines = try String(contentsOfFile: folder.path + "/data/history.jsonl", encoding: .utf8).split(separator: "\n")
    #expect(lines.count <= 10 && lines.count >= 5)
    #expect(node.stop() == 0)
    node = try NodeProcess(folder: folder, configuration: configuration)
    #expect(try node.receipts().map(\.id) == [16, 15, 14, 13, 12])
    let (output, _, status) = try node.command(["history"])
    #expect(status == 0 && output.contains("16"))
    #expect(node.stop() == 0)
  }
}
