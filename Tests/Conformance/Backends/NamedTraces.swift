/// Checks that are a trace each.
struct NamedTraces {
  let bench: Workbench
  let shrinker: TraceShrinker

  init(_ bench: Workbench) {
    self.bench = bench
    shrinker = TraceShrinker(bench: bench)
  }

  func check(_ name: String, _ build: (inout Trace) -> Void) async {
    await bench.recording.check(name) {
      var trace = Trace()
      build(&trace)
      try await shrinker.expect(trace)
      return ""
    }
  }
}
