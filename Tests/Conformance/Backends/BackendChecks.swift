import PluginAPI
import PluginTestHost

/// The rules of backend.h: each by a trace that names it, then all together at random.
struct BackendChecks {
  let bench: Workbench
  private let shrinker: TraceShrinker

  init(_ bench: Workbench) {
    self.bench = bench
    shrinker = TraceShrinker(bench: bench)
  }

  private static let root = TraceRun.roots[0]
  private static let modelRuns = 6
  private static let modelSteps = 300

  func run() async {
    guard let flags = await table() else { return }
    let isAtomic = flags & BP_BACKEND_ATOMIC != 0
    let keepsVersions = flags & BP_BACKEND_VERSIONS != 0
    await single()
    await conditions(keepsVersions)
    await units(isAtomic)
    await contents()
    await limits()
    await scans()
    await model(isAtomic, keepsVersions)
    await BackendBatches(bench).run()
    await BackendConcurrency(bench).run(isAtomic, keepsVersions)
    await durability()
  }

  /// The table's flags; nil: nothing else can be asked.
  private func table() async -> UInt32? {
    var flags: UInt32?
    await bench.recording.check("backend.table") {
      let host = try bench.created()
      defer { host.destroy() }
      let table = try BackendDriver(host).table
      try require(table.size >= UInt32.size(of: bp_backend.self), "bp_backend.size is \(table.size)")
      for (name, mode) in [("apply", table.apply_mode), ("read", table.read_mode), ("scan", table.scan_mode)] {
        try require(CallMode(rawValue: mode) != nil, "\(name)_mode is \(mode), which is no BP_MODE")
      }
      try require(
        table.apply != nil && table.read != nil && table.scan != nil, "apply, read or scan is NULL; all three must be")
      try require(
        (BP_DURABILITY_MEMORY...BP_DURABILITY_QUORUM).contains(table.durability_max),
        "durability_max is \(table.durability_max), which is no BP_DURABILITY that an acknowledgement can have")
      flags = table.flags
      return ""
    }
    return flags
  }

  private func trace(_ name: String, _ build: (inout Trace) -> Void) async {
    await bench.recording.check(name) {
      var trace = Trace()
      build(&trace)
      try await shrinker.expect(trace)
      return ""
    }
  }

  // MARK: One record

  private func single() async {
    let (a, b) = ("\(BackendChecks.root)/a", "\(BackendChecks.root)/b")
    await trace("backend.put-and-read") { trace in
      trace.read(a)
      trace.put(a, #"{"n":1.50,"n":[1e400]}"#)
      trace.read(a, b)
      trace.steps.append(.readWithoutData(a))
    }
    await trace("backend.overwrite") { trace in
      trace.put(a, "1")
      trace.put(a, "[2,3]")
      trace.read(a)
      trace.put(a, "binary", .bytes)
      trace.read(a)
      trace.put(a, "4")
      trace.read(a)
    }
    await trace("backend.stamps") { trace in
      trace.put(a, "1")
      trace.read(a)
      // Identical bytes again are a change: ts_ms and version move.
      trace.put(a, "1")
      trace.read(a)
      trace.put(b, "1")
      trace.read(a, b)
    }
    await trace("backend.delete") { trace in
      trace.delete(a)
      trace.put(a)
      trace.put(b)
      trace.delete(a)
      trace.read(a, b)
      trace.delete(a)
      trace.put(a, "2")
      trace.read(a)
      trace.scan(BackendChecks.root)
    }
  }

  private func conditions(_ keepsVersions: Bool) async {
    let (a, b) = ("\(BackendChecks.root)/a", "\(BackendChecks.root)/b")
    await trace("backend.preconditions") { trace in
      trace.put(a, "1", if: .absent)
      trace.put(a, "2", if: .absent)
      trace.read(a)
      trace.put(b, "1", if: .present)
      trace.read(b)
      trace.put(a, "3", if: .present)
      trace.read(a)
      trace.delete(b, if: .present)
      trace.delete(a, if: .absent)
      trace.read(a)
      trace.delete(a, if: .present)
      trace.put(a, "4", if: .absent)
      trace.read(a)
    }
    await trace("backend.versions") { trace in
      trace.put(a, "1")
      trace.put(a, "2", if: .version(1))
      trace.put(a, "3", if: .version(1))
      trace.read(a)
      trace.put(b, "1", if: .version(2))
      trace.delete(a, if: .version(1))
      trace.delete(a, if: .version(2))
      trace.read(a, b)
    }
    if !keepsVersions {
      await trace("backend.versions-not-kept") { trace in
        trace.put(a, "1")
        trace.put(a, "2", if: .version(0))
        trace.read(a)
      }
    }
  }

  // MARK: Units

  private func units(_ isAtomic: Bool) async {
    let (a, b, c) = ("\(BackendChecks.root)/a", "\(BackendChecks.root)/b", "\(BackendChecks.root)/c")
    let bytes = Array("1".utf8)
    await bench.recording.check("backend.batches") {
      try await bench.serving { host in
        let driver = try BackendDriver(host)
        // In one call to apply: units to one URI take effect in order, and one that fails fails no other.
        var model = Model(keepsVersions: driver.keepsVersions)
        let units: [(ops: [Op], stamp: UInt64)] = [
          ([.put(a, bytes)], 1), ([.put(a, Array("2".utf8), if: .present)], 2), ([.put(a, bytes, if: .absent)], 3),
          ([.put(b, bytes, if: .absent)], 4), ([.delete(c, if: .present)], 5), ([.delete(a)], 6),
          ([.put(a, Array("7".utf8), if: .absent)], 7), ([.put(b, Array("8".utf8))], 8),
        ]
        let wanted = units.map { model.apply($0.ops, stamp: $0.stamp) }
        let answers = try await driver.apply(units: units)
        for (index, answer) in answers.enumerated() {
          let isRight =
            switch wanted[index] {
            case .applied: answer.code == BP_OK
            case .preconditionFailed(let op): answer.code == BP_FAILED_PRECONDITION && Int(answer.failedOp) == op
            case .unimplemented: answer.code == BP_UNIMPLEMENTED
            }
          try require(
            isRight,
            "unit \(index + 1) of 8 in one call (\(Step.apply(units[index].ops, stamp: units[index].stamp))) was "
              + "answered with code \(answer.code); \(wanted[index]) is right")
        }
        for uri in [a, b, c] {
          let got = try await driver.read(uri)
          try require(
            got == model.records[uri],
            "after 8 units in one call \(uri) is \(got.map { TraceRun.shown($0.data) } ?? "absent"); it should be "
              + "\(model.records[uri].map { TraceRun.shown($0.data) } ?? "absent")")
        }
      }
      return ""
    }
    guard isAtomic else { return }
    await trace("backend.atomic-units") { trace in
      trace.put(b, "0")
      // The second op does not hold, so the first has not happened.
      trace.unit([.put(a, bytes), .put(b, bytes, if: .absent)])
      trace.read(a, b)
      trace.unit([.delete(b), .put(c, bytes, if: .present)])
      trace.read(b, c)
      trace.unit([.put(a, bytes), .put(c, bytes), .put(b, bytes, if: .present)])
      trace.read(a, b, c)
    }
    await trace("backend.units-in-order") { trace in
      // Each condition is about the record as the ops before it left it.
      trace.unit([.put(a, bytes, if: .absent), .put(a, Array("2".utf8), if: .present)])
      trace.read(a)
      trace.unit([.delete(a), .put(a, Array("3".utf8), if: .absent)])
      trace.read(a)
      trace.unit([.delete(a), .delete(a), .delete(b)])
      trace.read(a)
      trace.unit([.put(a, bytes), .delete(a, if: .present), .put(b, bytes), .put(a, bytes, if: .present)])
      trace.read(a, b)
    }
    await trace("backend.large-units") { trace in
      trace.unit((0..<2_000).map { .put("\(BackendChecks.root)/large/\($0)", bytes) })
      trace.scan("\(BackendChecks.root)/large/", credits: 999)
      trace.unit((0..<2_000).map { .delete("\(BackendChecks.root)/large/\($0)") } + [.put(a, bytes)])
      trace.scan(BackendChecks.root)
    }
  }

  // MARK: What a record may be

  private func contents() async {
    let root = BackendChecks.root
    await trace("backend.contents") { trace in
      for (index, data) in [[], [0], [0xff, 0xfe], Array(0...255), Array("\"\\u0000\\ud800\"".utf8)].enumerated() {
        trace.unit([.put("\(root)/bytes/\(index)", data, .bytes)])
        trace.read("\(root)/bytes/\(index)")
      }
      for text in ["null", " 1 ", #"{"b":1,"a":2,"b":3}"#, #""\u0000é€😀\ud800""#, "1e400", "-0.0"] {
        trace.put("\(root)/json", text)
        trace.read("\(root)/json")
      }
      trace.scan(root)
    }
    await trace("backend.odd-uris") { trace in
      let tails = [
        "", "/%00", "/%2F", "/%2f", "/%25", "/%E2%82%AC", "/a'b", "/a\"b".replacing("\"", with: "%22"), "/a;b=c,d",
        "/a_b",
        "/a%25b", "/*", "/[a]".replacing("[", with: "%5B"), "/!$&()+", "/~", "/A", "/a", "/.../a", "/aaaaaaaaaaaaaaaaa",
        "/a:b@c",
      ]
      for (index, tail) in tails.enumerated() { trace.put(root + tail, "\(index)") }
      for tail in tails { trace.read(root + tail) }
      // Names that a pattern (LIKE, GLOB, regular expression) would take for one another.
      for prefix in ["/a_", "/a%25", "/*", "/%2", "/A", "/a", "/."] { trace.scan(root + prefix, credits: 3) }
      trace.scan(root, credits: 4)
      trace.delete(root + "/a_b")
      trace.delete(root + "/A")
      trace.scan(root, credits: 100)
    }
  }

  /// Stored and read back, or refused with a clear limit.
  private func limits() async {
    let root = BackendChecks.root
    var large = SeededGenerator(seed: bench.seed)
    let mebibyte = large.bytes(1 << 20)
    let uri = "\(root)/" + String(repeating: "u", count: 4_096 - root.utf8.count - 1)
    await limit("backend.large-data", [.put("\(root)/large", mebibyte, .bytes)])
    await limit("backend.long-uri", [.put(uri, [0x31])])
  }

  private func limit(_ name: String, _ ops: [Op]) async {
    await bench.recording.check(name) {
      let refusal: String? = try await bench.serving { host in
        let answer = try await BackendDriver(host).apply(ops, stamp: 1)
        let isLimit = [BP_RESOURCE_EXHAUSTED, BP_INVALID_ARGUMENT, BP_OUT_OF_RANGE].contains(answer.code)
        return isLimit && !answer.message.isEmpty ? answer.message : nil
      }
      if let refusal { return "refused: \(refusal)" }
      var trace = Trace()
      trace.unit(ops)
      trace.read(ops[0].uri)
      trace.scan(BackendChecks.root)
      trace.delete(ops[0].uri)
      trace.read(ops[0].uri)
      try await shrinker.expect(trace)
      return ""
    }
  }

  // MARK: Scans

  private func scans() async {
    let root = BackendChecks.root
    await trace("backend.scan") { trace in
      trace.scan("")
      trace.scan(root)
      for tail in ["/a", "/c", "/b", "/a/b", ""] { trace.put(root + tail, tail) }
      trace.scan(root)
      trace.scan("")
      trace.put("\(root)/c", "longer than before")
      trace.scan(root)
    }
    await trace("backend.scan-prefix") { trace in
      for tail in ["", "/a", "/a/b", "/ab", "/a%20b", "/b", "-b/a", "-b"] { trace.put(root + tail) }
      trace.put("link://conformance/a")
      for tail in ["", "/", "/a", "/a/", "/a/b", "/ab", "/b/", "/c", "-", "-b/"] { trace.scan(root + tail) }
      for prefix in ["", "m", "mutable://", "link://conformance/", "n"] { trace.scan(prefix) }
    }
    await trace("backend.scan-paging") { trace in
      for index in 0..<57 { trace.put("\(root)/\(index % 5)/\(index)") }
      for credits in [1, 2, 3, 7, 56, 57, 58, 65_536] as [UInt32] {
        trace.scan(root, credits: credits)
        trace.scan("\(root)/3", credits: credits)
      }
    }
    await bench.recording.check("backend.scan-under-change") {
      try await bench.serving { host in try await scanUnderChange(try BackendDriver(host)) }
      return ""
    }
  }

  /// A record that exists throughout is seen exactly once, whatever comes and goes between the pages.
  private func scanUnderChange(_ driver: BackendDriver) async throws {
    let prefix = "\(BackendChecks.root)/change/"
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

  // MARK: Everything at random

  private func model(_ isAtomic: Bool, _ keepsVersions: Bool) async {
    await bench.recording.check("backend.model") {
      for run in 0..<UInt64(BackendChecks.modelRuns) {
        let seed = bench.seed &+ run
        let trace = RandomTrace.make(
          stepsCount: BackendChecks.modelSteps, isAtomic: isAtomic, keepsVersions: keepsVersions, seed: seed)
        do {
          try await shrinker.expect(trace, seed: bench.seed)
        } catch let problem as Problem {
          throw Problem("\(problem) (run \(run + 1) of \(BackendChecks.modelRuns))")
        }
      }
      return "\(BackendChecks.modelRuns * BackendChecks.modelSteps) steps"
    }
  }

  private func durability() async {
    let uri = "\(BackendChecks.root)/durable"
    await bench.recording.check("backend.durability") {
      try await bench.serving { host in
        let driver = try BackendDriver(host)
        for stamp in 1...20 as ClosedRange<UInt64> {
          let answer = try await driver.apply([.put(uri, Array("\(stamp)".utf8))], stamp: stamp)
          try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
          try require(
            answer.durability <= driver.table.durability_max,
            "apply acknowledged durability \(answer.durability); durability_max is \(driver.table.durability_max)")
          try require(answer.durability >= BP_DURABILITY_MEMORY, "apply acknowledged a write with durability none")
        }
      }
      return ""
    }
    guard !bench.plugin.isVolatile else { return }
    await bench.recording.check("backend.persistence") {
      let directory = try bench.makeDirectory()
      defer { bench.remove(directory) }
      try await bench.serving(in: directory) { host in
        let answer = try await BackendDriver(host).apply([.put(uri, Array("kept".utf8), .bytes)], stamp: 5)
        try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
      }
      try await bench.serving(in: directory) { host in
        let record = try await BackendDriver(host).read(uri)
        try require(
          record?.data == Array("kept".utf8) && record?.content == .bytes
            && record?.timestampMs == BackendDriver.timestampMs(5),
          "a record was not there after a new start; say \"volatile\": true in manifest.json when that is meant")
      }
      return ""
    }
  }
}
