import PluginAPI
import PluginTestHost

/// One record: put, overwritten, deleted, under conditions.
struct RecordChecks {
  let traces: NamedTraces
  private let root = TraceRun.roots[0]

  init(_ traces: NamedTraces) { self.traces = traces }

  func run(_ traits: BackendTraits) async {
    await single()
    await conditions(traits.keepsVersions)
  }

  private func single() async {
    let (a, b) = ("\(root)/a", "\(root)/b")
    await traces.check("backend.put-and-read") { trace in
      trace.read(a)
      trace.put(a, #"{"n":1.50,"n":[1e400]}"#)
      trace.read(a, b)
      trace.steps.append(.readWithoutData(a))
    }
    await traces.check("backend.overwrite") { trace in
      trace.put(a, "1")
      trace.put(a, "[2,3]")
      trace.read(a)
      trace.put(a, "binary", .bytes)
      trace.read(a)
      trace.put(a, "4")
      trace.read(a)
    }
    await traces.check("backend.stamps") { trace in
      trace.put(a, "1")
      trace.read(a)
      // Identical bytes again are a change: ts_ms and version move.
      trace.put(a, "1")
      trace.read(a)
      trace.put(b, "1")
      trace.read(a, b)
    }
    await traces.check("backend.delete") { trace in
      trace.delete(a)
      trace.put(a)
      trace.put(b)
      trace.delete(a)
      trace.read(a, b)
      trace.delete(a)
      trace.put(a, "2")
      trace.read(a)
      trace.scan(root)
    }
  }

  private func conditions(_ keepsVersions: Bool) async {
    let (a, b) = ("\(root)/a", "\(root)/b")
    await traces.check("backend.preconditions") { trace in
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
    await traces.check("backend.versions") { trace in
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
      await traces.check("backend.versions-not-kept") { trace in
        trace.put(a, "1")
        trace.put(a, "2", if: .version(0))
        trace.read(a)
      }
    }
  }
}
