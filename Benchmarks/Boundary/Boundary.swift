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
      // The fewest of several rounds: the kernel notes calls that were interrupted for over a millisecond, and that
      // allocates now and then on a busy machine, but not in every round.
      let counts = (0..<rounds).compactMap { _ -> UInt64? in
        guard let before = allocations() else { return nil }
        check(benchmark.run(callsCounted, path), callsCounted)
        return allocations()! - before
      }
      let count = counts.min().map { "\($0)" } ?? "null"
      let isTimed = !CommandLine.arguments.contains("--count")
      let times = (0..<(isTimed ? rounds : 1)).map { _ in
        let calls = isTimed ? callsTimed : callsCounted
        let start = nowNs()
        check(benchmark.run(calls, path), calls)
        return (nowNs() - start) / Double(calls)
      }.sorted()
      return "\"\(name)\":{\"ns\":\(times[times.count / 2]),\"ns_min\":\(times[0]),\"allocations\":\(count),"
        + "\"calls_counted\":\(callsCounted)}"
    }
    print("{\((fields + [attribution(benchmark)]).joined(separator: ","))}")
  }

  /// What the mark around a call costs: a call of nothing with it, and without.
  private static func attribution(_ benchmark: CallBenchmark) -> String {
    let figures = [("off", CallBenchmark.Attribution.off), ("on", .on)].map { name, attribution in
      _ = benchmark.runMarks(10_000, attribution)
      var instructions: UInt64?
      let times = (0..<rounds).map { _ in
        let start = nowNs()
        instructions = benchmark.runMarks(callsTimed, attribution)
        return (nowNs() - start) / Double(callsTimed)
      }
      let count = instructions.map { "\(Double($0) / Double(callsTimed))" } ?? "null"
      return "\"\(name)\":{\"ns\":\(times.min()!),\"instructions\":\(count)}"
    }
    return "\"attribution\":{\(figures.joined(separator: ","))}"
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
