import PluginAPI
import PluginTestHost

/// Scans: whole, exact, in one order, also while records come and go.
struct ScanChecks {
  let traces: NamedTraces
  private var bench: Workbench { traces.bench }
  private let root = TraceRun.roots[0]

  init(_ traces: NamedTraces) { self.traces = traces }

  func run() async {
    let root = root
    await traces.check("backend.scan") { trace in
      trace.scan("")
      trace.scan(root)
      for tail in ["/a", "/c", "/b", "/a/b", ""] { trace.put(root + tail, "\"\(tail)\"") }
      trace.scan(root)
      trace.scan("")
      trace.put("\(root)/c", "\"longer than before\"")
      trace.scan(root)
    }
    await traces.check("backend.scan-prefix") { trace in
      for tail in ["", "/a", "/a/b", "/ab", "/a%20b", "/b", "-b/a", "-b"] { trace.put(root + tail) }
      trace.put("link://conformance/a")
      for tail in ["", "/", "/a", "/a/", "/a/b", "/ab", "/b/", "/c", "-", "-b/"] { trace.scan(root + tail) }
      for prefix in ["", "m", "mutable://", "link://conformance/", "n"] { trace.scan(prefix) }
    }
    await traces.check("backend.scan-paging") { trace in
      for index in 0..<57 { trace.put("\(root)/\(index % 5)/\(index)") }
      for credits in [1, 2, 3, 7, 56, 57, 58, 65_536] as [UInt32] {
        trace.scan(root, credits: credits)
        trace.scan("\(root)/3", credits: credits)
      }
    }
    await bench.recording.check("backend.scan-under-change") {
      try await bench.servingNothing { host in try await scanUnderChange(try BackendDriver(host)) }
      return ""
    }
  }

  /// A record that exists throughout is seen exactly once, whatever comes and goes between the pages.
  private func scanUnderChange(_ driver: BackendDriver) async throws {
    let prefix = "\(root)/change/"
    var random = SeededGenerator(seed: bench.seed)
    var stamp: UInt64 = 0
    func apply(_ op: Op) async throws {
      stamp += 1
      let answer = try await driver.apply([op], stamp: stamp)
      try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
    }
    let stayers = (0..<60).map { "\(prefix)\($0 * 3)" }
    let leavers = (0..<60).map { "\(prefix)\($0 * 3 + 1)" }
    for (stayer, leaver) in zip(stayers, leavers).shuffled(using: &random) {
      try await apply(.put(stayer, [0x31]))
      try await apply(.put(leaver, [0x31]))
    }
    var leaving = leavers.shuffled(using: &random)
    var arriving = 0
    var seen: [String: Int] = [:]
    var cursor: [UInt8] = []
    var pagesCount = 0
    repeat {
      let page = try await driver.page(prefix: prefix, cursor: cursor, credits: 7)
      for item in page.items { seen[item.uri, default: 0] += 1 }
      cursor = page.cursor
      pagesCount += 1
      try require(pagesCount < 2_000, "the scan does not end while records come and go")
      // The last item of the page goes, which is what a careless cursor points to.
      if let last = page.items.last?.uri, let index = leaving.firstIndex(of: last) {
        try await apply(.delete(leaving.remove(at: index)))
      }
      if let gone = leaving.popLast() { try await apply(.delete(gone)) }
      // A bounded number, so that the scan can end in every order.
      if arriving < 60 {
        try await apply(.put("\(prefix)\(arriving * 3 + 2)", [0x31]))
        try await apply(.put(stayers.randomElement(using: &random)!, Array("\(arriving)".utf8)))
        arriving += 1
      }
    } while !cursor.isEmpty
    for stayer in stayers {
      let count = seen[stayer] ?? 0
      try require(
        count == 1,
        "\(stayer) existed throughout and was seen \(count) times in a scan by 7 while others came and went. Seed "
          + "\(bench.seed).")
    }
  }
}
