import Glibc
@_spi(Benchmark) import Kernel

// What a call over the boundary costs, in time and in allocations. Prints one JSON object. Allocations are counted when
// malloc_count.c is preloaded, else null.

@main
enum Boundary {
  private static let callsTimed = 10_000_000
  private static let callsCounted = 1_000_000
  private static let rounds = 5

  static func main() throws {
    let benchmark = try CallBenchmark()
    let fields = [("boundary", CallBenchmark.Path.boundary), ("node_read", .node)].map { name, path in
      // The first calls touch memory and lazy globals for the first time.
      check(benchmark.run(10_000, path), 10_000)
      let before = allocations()
      check(benchmark.run(callsCounted, path), callsCounted)
      let after = allocations()
      let count = before.flatMap { before in after.map { "\($0 - before)" } } ?? "null"
      let times = (0..<rounds).map { _ in
        let start = nowNs()
        check(benchmark.run(callsTimed, path), callsTimed)
        return (nowNs() - start) / Double(callsTimed)
      }.sorted()
      return "\"\(name)\":{\"ns\":\(times[rounds / 2]),\"ns_min\":\(times[0]),\"allocations\":\(count),"
        + "\"calls_counted\":\(callsCounted)}"
    }
    print("{\(fields.joined(separator: ","))}")
  }

  private static func check(_ answered: Int, _ wanted: Int) {
    guard answered != wanted else { return }
    fputs("Boundary: \(answered) of \(wanted) reads were answered; the figures would mean nothing.\n", fdopen(2, "w"))
    exit(70)
  }

  private static func allocations() -> UInt64? {
    guard let symbol = dlsym(nil, "malloc_count_total") else { return nil }
    return unsafeBitCast(symbol, to: (@convention(c) () -> UInt64).self)()
  }

  private static func nowNs() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
  }
}
