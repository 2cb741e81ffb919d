import Glibc
@_spi(Benchmark) import Kernel

// What a call to an isolated plugin costs. Usage: IsolationBenchmark PLUGIN HOST SECONDS. Prints one JSON object.

@main
enum Isolation {
  static func main() throws {
    guard CommandLine.arguments.count == 4, let seconds = Double(CommandLine.arguments[3]) else { exit(64) }
    signal(SIGPIPE, SIG_IGN)
    let benchmark: IsolationBenchmark
    do {
      benchmark = try IsolationBenchmark(plugin: CommandLine.arguments[1], hostExecutable: CommandLine.arguments[2])
    } catch let failure as IsolationBenchmark.Failure {
      fputs("IsolationBenchmark: \(failure.sentence)\n", fdopen(2, "w"))
      exit(70)
    }
    let parts: [(String, IsolationBenchmark.Call, Int)] = [
      ("read_200_1", .read(200), 1), ("read_200_64", .read(200), 64), ("apply_200_1", .apply(200), 1),
      ("apply_200_64", .apply(200), 64), ("read_65536_1", .read(65_536), 1), ("read_65536_16", .read(65_536), 16),
      ("apply_65536_1", .apply(65_536), 1), ("apply_65536_16", .apply(65_536), 16),
    ]
    var fields = parts.map { name, call, window in
      let figures = benchmark.run(call, window: window, seconds: seconds)
      return "\"\(name)\":{\"p50_ns\":\(figures.p50Ns),\"p99_ns\":\(figures.p99Ns),\"per_second\":\(figures.perSecond)}"
    }
    let restarts = benchmark.restarts(20).sorted()
    fields.append("\"restart_ms\":{\"p50\":\(restarts[10]),\"max\":\(restarts[19])}")
    print("{\(fields.joined(separator: ","))}")
    benchmark.shutDown()
  }
}
