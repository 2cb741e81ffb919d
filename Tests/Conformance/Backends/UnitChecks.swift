import PluginAPI
import PluginTestHost

/// Several ops of a unit, and several units of a call.
struct UnitChecks {
  let traces: NamedTraces
  private var bench: Workbench { traces.bench }
  private let root = TraceRun.roots[0]

  init(_ traces: NamedTraces) { self.traces = traces }

  func run(_ traits: BackendTraits) async {
    let (a, b, c) = ("\(root)/a", "\(root)/b", "\(root)/c")
    let bytes = Array("1".utf8)
    await bench.recording.check("backend.batches") {
      try await bench.servingNothing { host in
        let driver = try BackendDriver(host)
        // In one call to apply: units to one URI take effect in order, and one that fails fails no other.
        var model = Model(keepsVersions: traits.keepsVersions)
        let all: [(ops: [Op], stamp: UInt64)] = [
          ([.put(a, bytes)], 1), ([.put(a, Array("2".utf8), if: .present)], 2), ([.put(a, bytes, if: .absent)], 3),
          ([.put(b, bytes, if: .absent)], 4), ([.delete(c, if: .present)], 5), ([.delete(a)], 6),
          ([.put(a, Array("7".utf8), if: .absent)], 7), ([.put(b, Array("8".utf8))], 8),
        ]
        let units = all.filter { unit in !traits.isRemote || unit.ops.allSatisfy { $0.condition == .any } }
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
            "unit \(index + 1) of \(units.count) in one call (\(Step.apply(units[index].ops, stamp: units[index].stamp))) was "
              + "answered with code \(answer.code); \(wanted[index]) is right")
        }
        for uri in [a, b, c] {
          let got = try await driver.read(uri)
          if let difference = TraceRun.difference(got, model.records[uri], traits) {
            throw Problem("after \(units.count) units in one call a read of \(uri) \(difference)")
          }
        }
      }
      return ""
    }
    guard traits.isAtomic else { return }
    await traces.check("backend.atomic-units") { trace in
      trace.put(b, "0")
      // The second op does not hold, so the first has not happened.
      trace.unit([.put(a, bytes), .put(b, bytes, if: .absent)])
      trace.read(a, b)
      trace.unit([.delete(b), .put(c, bytes, if: .present)])
      trace.read(b, c)
      trace.unit([.put(a, bytes), .put(c, bytes), .put(b, bytes, if: .present)])
      trace.read(a, b, c)
    }
    await traces.check("backend.units-in-order") { trace in
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
    await traces.check("backend.large-units") { trace in
      trace.unit((0..<2_000).map { .put("\(root)/large/\($0)", bytes) })
      trace.scan("\(root)/large/", credits: 999)
      trace.unit((0..<2_000).map { .delete("\(root)/large/\($0)") } + [.put(a, bytes)])
      trace.scan(root)
    }
  }
}
