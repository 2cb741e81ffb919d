import Foundation
import NodeTesting

/// Keep-alive clients that write, and read back what they wrote. Everything but `acknowledged`, `reads` and `closes`
/// ought to stay empty.
final class Load: Sendable {
  struct Seen {
    var acknowledged: [(uri: String, value: Int)] = []
    var reads = 0
    var failures: [String] = []
    /// Connections that were asked to go elsewhere.
    var closes = 0
  }

  private let isOver = Shared(false)
  private let results: [Shared<Seen>]
  private let clients = TestThreads()

  init(clients count: Int, port: Int) {
    results = (0..<count).map { _ in Shared(Seen()) }
    for (client, seen) in results.enumerated() {
      clients.start { [isOver] in Load.run(client, port, seen) { isOver.with { $0 } } }
    }
  }

  /// What all have seen so far.
  var seen: Seen {
    results.map { $0.with { $0 } }.reduce(into: Seen()) { all, some in
      all.acknowledged += some.acknowledged
      all.reads += some.reads
      all.failures += some.failures
      all.closes += some.closes
    }
  }

  /// Waits until `count` more writes have been acknowledged.
  func passes(_ count: Int) -> Bool {
    let before = seen.acknowledged.count
    return Polling.until(seconds: 60) { seen.acknowledged.count >= before + count }
  }

  /// False when a client hangs.
  func end() -> Bool {
    isOver.with { $0 = true }
    return clients.join(seconds: 60)
  }

  private static func run(_ client: Int, _ port: Int, _ seen: Shared<Seen>, _ isOver: () -> Bool) {
    var connection: HTTPConnection?
    func request(_ body: (HTTPConnection) throws -> HTTPConnection.Answer) throws -> HTTPConnection.Answer {
      if connection == nil { connection = try HTTPConnection(port: port) }
      let answer = try body(connection!)
      if answer.closes {
        connection = nil
        seen.with { $0.closes += 1 }
      }
      return answer
    }
    var number = 0
    while !isOver() {
      let uri = "mutable://open/load/\(client)/\(number)"
      do {
        let written = try request { try $0.post("/api/v1/receive", #"{"tx":["\#(uri)",\#(number)]}"#) }
        if written.status == 200 {
          seen.with { $0.acknowledged.append((uri, number)) }
        } else {
          seen.with { $0.failures.append("write \(uri): \(written.status) \(written.text)") }
        }
        let read = try request { try $0.get("/api/v1/read/mutable/open/load/\(client)/\(number)") }
        if read.status == 200, read.text.hasSuffix("\"data\":\(number)}") {
          seen.with { $0.reads += 1 }
        } else {
          seen.with { $0.failures.append("read \(uri): \(read.status) \(read.text)") }
        }
      } catch {
        seen.with { $0.failures.append("\(uri): \(error)") }
        connection = nil
      }
      number += 1
      // A pace, so that the upgrades have a processor to run on.
      usleep(5000)
    }
  }

  /// The acknowledged writes that are not there.
  static func missing(_ writes: [(uri: String, value: Int)], port: Int) throws -> [String] {
    var lost: [String] = []
    var connection = try HTTPConnection(port: port)
    for start in stride(from: 0, to: writes.count, by: 50) {
      let some = Array(writes[start..<min(start + 50, writes.count)])
      let uris = some.map { "\"\($0.uri)\"" }.joined(separator: ",")
      let answer = try connection.post("/api/v1/read-multi", "{\"uris\":[\(uris)]}")
      if answer.closes { connection = try HTTPConnection(port: port) }
      let results = (answer.json as? [String: Any])?["results"] as? [[String: Any]] ?? []
      for (index, write) in some.enumerated() {
        let record = index < results.count ? results[index]["record"] as? [String: Any] : nil
        if record?["data"] as? Int != write.value { lost.append(write.uri) }
      }
    }
    return lost
  }
}

/// A process is there and is no zombie.
func isAlive(_ pid: Int32) -> Bool {
  let text = ProcessFile.read("/proc/\(pid)/stat")
  guard let end = text.lastIndex(of: ")") else { return false }
  return !text[text.index(after: end)...].hasPrefix(" Z")
}
