import Glibc
@_spi(Benchmark) import Kernel

// What the feed costs a write, and how many items it hands over. Prints one JSON object. Usage: FeedBenchmark [--writes N]:
// with a number only that many writes are made, with nobody subscribed, for a program that counts instructions.

@main
enum Feed {
  private static let writes = 300_000
  private static let subscribers = 10_000

  static func main() throws {
    let arguments = CommandLine.arguments
    if arguments.count == 3, arguments[1] == "--writes", let count = Int(arguments[2]) {
      _ = try FeedBenchmark().write(count, width: 64)
      return
    }
    let idle = try cost { _ in }
    let kept = try cost { $0.subscribe("mutable://open/nobody", credits: 1) }
    let followed = try cost { $0.subscribe("", credits: .max) }
    print(
      """
      {"write":{"idle":\(idle),"kept":\(kept),"followed":\(followed)},
       "fan_out":{"everything":\(try fanOut(writes: 500, distinct: false)),\
      "distinct":\(try fanOut(writes: 200_000, distinct: true))}}
      """)
  }

  /// One write, in nanoseconds and instructions.
  private static func cost(_ prepare: (FeedBenchmark) -> Void) throws -> String {
    let benchmark = try FeedBenchmark()
    prepare(benchmark)
    _ = benchmark.write(10_000, width: 64)
    var instructions: UInt64?
    let times = (0..<5).map { _ in
      let start = nowNs()
      instructions = benchmark.write(writes, width: 64)
      return (nowNs() - start) / Double(writes)
    }
    let count = instructions.map { "\(Double($0) / Double(writes))" } ?? "null"
    return "{\"ns\":\(times.min()!),\"instructions\":\(count)}"
  }

  /// Ten thousand subscriptions: all of them to everything, or each to a record of its own.
  private static func fanOut(writes: Int, distinct: Bool) throws -> String {
    let benchmark = try FeedBenchmark()
    for index in 0..<subscribers {
      benchmark.subscribe(distinct ? "mutable://open/bench/\(index)" : "", credits: .max)
    }
    waitFor(benchmark, subscribers)
    benchmark.keep(recordsMax: max(65_536, writes))
    let start = nowNs()
    _ = benchmark.write(writes, width: subscribers)
    let items = writes * (distinct ? 1 : subscribers)
    waitFor(benchmark, subscribers + items)
    let seconds = (nowNs() - start) / 1e9
    return "{\"items_per_second\":\(Double(items) / seconds),\"messages_per_second\":\(Double(writes) / seconds)}"
  }

  private static func waitFor(_ benchmark: FeedBenchmark, _ items: Int) {
    while benchmark.itemsCount < items { usleep(500) }
  }

  private static func nowNs() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
  }
}
