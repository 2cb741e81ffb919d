import BackendTesting
import Glibc
import PluginAPI
import PostgreSQLBackend
import ServerTesting

// Writes and reads through the plugin's table against libpq's own pipeline: the same statements, rows and values, the same
// server, in turns. Every record is written twice, the second time with another value. Prints one JSON object for each
// figure.

/// Submitted at once, and put into one transaction or one pipeline by hand.
let together = 100
let recordsCount = 20_000

func nowNs() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
}

func report(_ name: String, _ ours: [Double], _ raw: [Double]) {
  print("{\"name\":\"\(name)\",\"ours\":\(ours),\"raw\":\(raw)}")
  fflush(nil)
}

let rounds = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) ?? 3 : 3
let server = try PostgreSQLServer(["fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"])
let database = try server.makeDatabase()
var figures: [String: (ours: [Double], raw: [Double])] = [:]
let values = Values(count: recordsCount)
for round in 1...rounds {
  // A table for each, and new ones for each round.
  for prefix in ["ours\(round)", "bare\(round)"] {
    let backend = try TestBackend.started(
      PostgreSQLBackend.self, #"{"url":"\#(server.url(database))","table_prefix":"\#(prefix)"}"#)
    try backend.stop()
  }
  let plugin = try PluginSide(server.url(database), prefix: "ours\(round)", values)
  let bare = try BareSide(server.url(database), prefix: "bare\(round)", values)
  func compare(_ name: String, _ ours: () -> Double, _ raw: () -> Double) {
    // Each has the first turn every other round.
    let first = round % 2 == 0 ? ours() : 0
    figures[name, default: ([], [])].raw.append(raw())
    figures[name, default: ([], [])].ours.append(round % 2 == 0 ? first : ours())
  }
  compare("receive, \(together) at once") {
    plugin.write(inFlight: together)
  } _: {
    bare.write()
  }
  compare("receive, \(2 * together) in flight") {
    plugin.write(inFlight: 2 * together)
  } _: {
    bare.write()
  }
  try server.client(database).run("ANALYZE")
  compare("read, \(together) at once") {
    plugin.read(inFlight: together)
  } _: {
    bare.read()
  }
  compare("read, \(2 * together) in flight") {
    plugin.read(inFlight: 2 * together)
  } _: {
    bare.read()
  }
  compare("read, one at a time") {
    plugin.readOneByOne()
  } _: {
    bare.readOneByOne()
  }
  compare("read, \(together) at once, by array") {
    plugin.read(inFlight: together)
  } _: {
    bare.readByArray()
  }
}
for (name, figure) in figures.sorted(by: { $0.key < $1.key }) { report(name, figure.ours, figure.raw) }
