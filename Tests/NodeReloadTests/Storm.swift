import Foundation
import NodeTesting
import Testing

/// What is replaced in turn.
struct StormFile {
  var source: String
  var name: String

  var sizeBytes: Int {
    ((try? FileManager.default.attributesOfItem(atPath: source))?[.size] as? NSNumber)?.intValue ?? 0
  }

  static let all = ["backend-memory", "transport-http", "backend-sqlite", "schema-permissive"].map {
    StormFile(source: BuiltProducts.plugin($0), name: "libbackplane-\($0).so")
  }
}

/// A node with a memory and a SQLite backend, and clients that write to it and read back what they wrote.
final class Storm {
  let node: NodeProcess
  private let clients: [StormClient]
  private let threads = TestThreads()
  private let isOver = Shared(false)

  /// What the clients saw.
  struct Load {
    var writes = 0
    var reads = 0
    var closes = 0
    var failures: [String] = []
  }

  /// Superseded images that the node keeps before it hands over to a process without any.
  private let imagesMax: Int

  init(clients count: Int, imagesMax: Int = 10_000) throws {
    self.imagesMax = imagesMax
    node = try NodeProcess(configuration: Storm.yaml(["memory", "sqlite"], imagesMax))
    clients = (0..<count).map { StormClient(number: $0) }
  }

  private static func yaml(_ backends: [String], _ imagesMax: Int) -> String {
    let slots = ["memory", "sqlite"].enumerated().filter { backends.contains($0.element) }.map { index, name in
      "  \(name): {kind: backend, order: \(index + 1), url: \"\(name)://\"}"
    }
    return """
      node: {write_policy: all}
      reload: {watch: false, probation_ms: 0, drain_soft_ms: 5000}
      limits: {retained_images_max: \(imagesMax)}
      slots:
      \(slots.joined(separator: "\n"))
      """
  }

  func configure(backends: [String]) throws {
    try node.folder.write(Storm.yaml(backends, imagesMax), to: "backplane.yaml")
  }

  /// Renames a file of new content in and takes it at once.
  func reload(_ number: Int) throws -> TestReceipt {
    let file = StormFile.all[number % StormFile.all.count]
    try PluginFile.drop(file.source, into: node.pluginsDirectory, as: file.name, stamp: "build \(number)")
    return try node.reloadDirectly(now: ["\(node.pluginsDirectory)/\(file.name)"])
  }

  /// Threads and descriptors when nothing of a former generation is left; nil when they do not come to rest.
  func resourcesAtRest() -> (threads: Int, descriptors: Int)? {
    var last = node.resources()
    var equal = 0
    let isAtRest = Polling.until(seconds: 60, everyMs: 100) {
      let now = node.resources()
      equal = now == last ? equal + 1 : 0
      last = now
      return equal >= 15
    }
    return isAtRest ? last : nil
  }

  func begin() {
    let port = node.port
    for client in clients { threads.start { [isOver] in client.run(port: port) { isOver.with { $0 } } } }
  }

  func end() throws -> Load {
    isOver.with { $0 = true }
    #expect(threads.join(seconds: 60))
    return clients.reduce(into: Load()) { sum, client in
      client.load.with { load in
        sum.writes += load.writes
        sum.reads += load.reads
        sum.closes += load.closes
        sum.failures += load.failures
      }
    }
  }

  /// Each backend by itself has every record.
  func expectEveryRecord() throws {
    for backend in ["memory", "sqlite"] {
      try configure(backends: [backend])
      // The other one goes, and its records with it.
      #expect(try node.reloadDirectly(now: ["*"], losesState: true).outcome == "applied")
      let lost = try missing()
      #expect(lost.isEmpty, "\(backend): \(lost.count) of \(recordCount) records are lost: \(lost.prefix(5))")
      try configure(backends: ["memory", "sqlite"])
      if backend == "memory" { #expect(try node.reloadDirectly(now: ["*"]).outcome == "applied") }
    }
  }

  var recordCount: Int { clients.reduce(0) { $0 + $1.values.with { $0.count } } }

  /// The records that are not what was acknowledged last.
  func missing() throws -> [String] {
    var lost: [String] = []
    for client in clients {
      let records = client.values.with { Array($0) }
      for start in stride(from: 0, to: records.count, by: 50) {
        let some = records[start..<min(start + 50, records.count)]
        let uris = some.map { "\"\($0.key)\"" }.joined(separator: ",")
        let answer = try HTTPConnection(port: node.port).post("/api/v1/read-multi", "{\"uris\":[\(uris)]}")
        let results = (answer.json as? [String: Any])?["results"] as? [[String: Any]] ?? []
        for (index, wanted) in some.enumerated() {
          let record = index < results.count ? results[index]["record"] as? [String: Any] : nil
          let found = record?["data"] as? Int
          if found != wanted.value {
            lost.append("\(wanted.key): \(wanted.value), not \(found.map(String.init) ?? "there")")
          }
        }
      }
    }
    return lost
  }
}

/// One keep-alive client. It alone writes its records, so that it knows what each has to be: some again and again, and
/// every tenth write a new one. Connects anew only when it was told to.
final class StormClient: Sendable {
  let load = Shared(Storm.Load())
  /// What was acknowledged last, by URI.
  let values = Shared<[String: Int]>([:])
  private let number: Int
  private static let recordsRewritten = 20

  init(number: Int) { self.number = number }

  func run(port: Int, until isOver: () -> Bool) {
    var connection: HTTPConnection?
    func request(_ body: (HTTPConnection) throws -> HTTPConnection.Answer) throws -> HTTPConnection.Answer {
      if connection == nil { connection = try HTTPConnection(port: port) }
      let answer = try body(connection!)
      if answer.closes {
        connection = nil
        load.with { $0.closes += 1 }
      }
      return answer
    }
    var turn = 0
    while !isOver() {
      turn += 1
      let name = turn % 10 == 0 ? "new/\(turn)" : "again/\(turn % StormClient.recordsRewritten)"
      let path = "open/load/\(number)/\(name)"
      do {
        let written = try request { try $0.post("/api/v1/receive", #"{"tx":["mutable://\#(path)",\#(turn)]}"#) }
        guard written.status == 200 else { throw StormFailure(text: "\(written.status) \(written.text)") }
        values.with { $0["mutable://\(path)"] = turn }
        load.with { $0.writes += 1 }
        let read = try request { try $0.get("/api/v1/read/mutable/\(path)") }
        guard read.status == 200, read.text.hasSuffix("\"data\":\(turn)}") else {
          throw StormFailure(text: "read \(turn) as \(read.status) \(read.text)")
        }
        load.with { $0.reads += 1 }
      } catch {
        load.with { $0.failures.append("\(path): \(error)") }
        connection = nil
      }
      // A pace, so that the reloads have a processor to run on.
      usleep(40_000)
    }
  }
}

struct StormFailure: Error, CustomStringConvertible {
  var text: String
  var description: String { text }
}
