import Foundation
import NodeTesting
import Testing

/// What a load of clients saw. Everything but `acknowledged` ought to stay empty.
private struct Seen {
  var acknowledged: [(uri: String, value: Int)] = []
  var reads = 0
  var failures: [String] = []
  var closes = 0
}

/// BACKPLANE_TEST_RELOADS sets how many reloads there are in all (400), half of them of the SQLite backend and half of
/// the HTTP transport.
@Test(.timeLimit(.minutes(15))) func aStormOfReloadsFailsNoRequest() throws {
  let reloads = setting("BACKPLANE_TEST_RELOADS", default: 400)
  let node = try NodeProcess(
    configuration: """
      reload: {watch: false, probation_ms: 500}
      limits: {retained_images_max: 10000}
      slots:
        main: {kind: backend, url: "sqlite://"}
      """)
  let files = ["backend-sqlite", "transport-http"].map {
    (source: BuiltProducts.plugin($0), name: "libbackplane-\($0).so")
  }
  func reload(_ number: Int) throws -> TestReceipt {
    let file = files[number % files.count]
    try PluginFile.drop(file.source, into: node.pluginsDirectory, as: file.name, stamp: "build \(number)")
    return try node.reloadDirectly(now: ["\(node.pluginsDirectory)/\(file.name)"])
  }
  // One of each first: what is opened once for good (Foundation, the Swift runtime's threads) is there before counting.
  for number in 0..<2 { #expect(try reload(number).outcome == "applied") }
  #expect(settled(node) { node.resources() } != nil)
  let before = node.resources()

  let isOver = Shared(false)
  let results = (0..<16).map { _ in Shared(Seen()) }
  let clients = TestThreads()
  let port = node.port
  for (client, seen) in results.enumerated() {
    clients.start { load(client, port: port, seen) { isOver.with { $0 } } }
  }
  var refused: [String] = []
  for number in 2..<(2 + reloads) {
    let receipt = try reload(number)
    if receipt.outcome != "applied" { refused.append(receipt.description) }
  }
  isOver.with { $0 = true }
  #expect(clients.join(seconds: 60))
  #expect(refused.isEmpty, "\(refused.prefix(3))")

  let all = results.map { $0.with { $0 } }
  let failures = all.flatMap(\.failures)
  #expect(failures.isEmpty, "\(failures.count): \(failures.prefix(10))")
  let writes = all.flatMap(\.acknowledged)
  #expect(writes.count >= reloads, "the load was no load: \(writes.count) writes")
  #expect(all.map(\.closes).reduce(0, +) > 0, "no connection was asked to move to a new transport")
  let lost = try missing(writes, port: port)
  #expect(lost.isEmpty, "\(lost.count) of \(writes.count) acknowledged writes are lost: \(lost.prefix(5))")

  // Operations that were slow under the load run on threads from then on. What is compared is idle instances, so each is
  // made anew; what 400 generations have left behind stays to be seen.
  let fresh = ["schema-permissive", "backend-sqlite", "transport-http"]
  for name in fresh {
    try PluginFile.drop(
      BuiltProducts.plugin(name), into: node.pluginsDirectory, as: "libbackplane-\(name).so", stamp: "last")
    #expect(try node.reloadDirectly(now: ["*"]).outcome == "applied")
  }
  #expect(try node.ask(["command": "status"])["generation"] as? Int == 1 + 2 + reloads + fresh.count)
  let isLevel = Polling.until(seconds: 60, everyMs: 100) { node.resources() == before }
  #expect(isLevel, "threads and descriptors: \(before) before, \(node.resources()) after \(reloads) reloads")
  #expect(try node.metric("backplane_instances_wedged_total") == 0)
  print("storm: \(reloads) reloads, \(writes.count) writes, \(all.map(\.reads).reduce(0, +)) reads, \(before)")
  #expect(node.stop() == 0)
}

/// Waits until nothing of a former generation is left; what `value` is then, or nil.
private func settled<T>(_ node: NodeProcess, _ value: () -> T) -> T? {
  var last = node.resources()
  var equal = 0
  let isSettled = Polling.until(seconds: 60, everyMs: 100) {
    let now = node.resources()
    equal = now == last ? equal + 1 : 0
    last = now
    return equal >= 15
  }
  return isSettled ? value() : nil
}

/// One keep-alive client: writes, and reads back what it wrote before. Connects anew only when it was told to.
private func load(_ client: Int, port: Int, _ seen: Shared<Seen>, _ isOver: () -> Bool) {
  var connection: HTTPConnection?
  var number = 0
  func request(_ body: (HTTPConnection) throws -> HTTPConnection.Answer) throws -> HTTPConnection.Answer {
    if connection == nil { connection = try HTTPConnection(port: port) }
    let answer = try body(connection!)
    if answer.closes {
      connection = nil
      seen.with { $0.closes += 1 }
    }
    return answer
  }
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
    // A pace, so that the reloads have a processor to run on.
    usleep(10_000)
  }
}

/// The acknowledged writes that are not there.
private func missing(_ writes: [(uri: String, value: Int)], port: Int) throws -> [String] {
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
