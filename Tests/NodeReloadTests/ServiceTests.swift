import Foundation
import NodeTesting
import Testing

/// Plays systemd: a datagram socket that NOTIFY_SOCKET names.
final class NotifySocket {
  let path: String
  private let descriptor: Int32

  init(in folder: TemporaryFolder) throws {
    path = folder.path + "/notify"
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard status == 0 else { throw NodeProcess.Failed(description: "no notify socket: \(errno)") }
    var time = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(descriptor) }

  /// The next datagram's assignments; empty when none came.
  func next() -> [String: String] {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = recv(descriptor, &buffer, buffer.count, 0)
    guard count > 0 else { return [:] }
    let lines = String(decoding: buffer[0..<count], as: UTF8.self).split(separator: "\n")
    return Dictionary(
      lines.map { line in
        let parts = line.split(separator: "=", maxSplits: 1).map(String.init)
        return (parts[0], parts.count > 1 ? parts[1] : "")
      }, uniquingKeysWith: { $1 })
  }
}

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
    #expect(manager.next()["STOPPING"] == "1")
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
