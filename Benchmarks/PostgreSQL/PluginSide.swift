import BackendTesting
import Glibc
import PluginAPI
import PostgreSQLBackend

/// The calls that a kernel makes, without anything around them.
final class PluginSide {
  private let backend: TestBackend
  private let values: Values
  private var version: UInt64 = 0

  init(_ url: String, prefix: String, _ values: Values) throws {
    backend = try TestBackend.started(PostgreSQLBackend.self, #"{"url":"\#(url)","table_prefix":"\#(prefix)"}"#)
    self.values = values
    // All connections are there.
    _ = backend.read("mutable://none")
    _ = backend.page("mutable://none")
  }

  /// Calls a second. `submit` is given what to submit without waiting.
  private func measure(_ count: Int, inFlight: Int, _ submit: (Int, CompletionCounter) -> Void) -> Double {
    let counter = CompletionCounter()
    let start = nowNs()
    var submitted = 0
    while submitted < count {
      // As a window of so many would be refilled: half of it at a time, or all of it.
      if submitted - counter.count <= inFlight - together {
        for index in submitted..<submitted + together { submit(index, counter) }
        submitted += together
      } else {
        // A thread that spins would take a core from the server.
        usleep(10)
      }
    }
    while counter.count < count { usleep(10) }
    precondition(counter.count == count, "a call failed")
    return Double(count) / ((nowNs() - start) / 1e9)
  }

  /// Twice, each time another value.
  func write(inFlight: Int) -> Double {
    let rates = (1...2).map { _ in
      version += 1
      let ops = UnsafeMutablePointer<bp_op>.allocate(capacity: recordsCount)
      defer { ops.deallocate() }
      return measure(recordsCount, inFlight: inFlight) { index, counter in
        ops[index] = bp_op(
          size: .size(of: bp_op.self), verb: BP_VERB_PUT, condition: BP_IF_ANY, content: BP_CONTENT_JSON, if_version: 0,
          flags: 0, reserved: 0, uri: values.uris[index], data: values.data[(index + Int(version)) % values.data.count],
          refusal: .empty)
        var unit = bp_unit(
          size: .size(of: bp_unit.self), ops_count: 1, ops: ops + index, token: counter.token, call: nil,
          ts_ms: 1_700_000_000_000 + version, version: version)
        backend.table.pointee.apply(backend.plugin.pointee.`self`, &unit, 1)
      }
    }
    return 2 / rates.reduce(0) { $0 + 1 / $1 }
  }

  func read(inFlight: Int) -> Double {
    measure(recordsCount, inFlight: inFlight) { index, counter in
      var request = bp_read(
        size: .size(of: bp_read.self), flags: 0, token: counter.token, call: nil,
        uri: values.uris[index &* 7_919 % values.uris.count])
      backend.table.pointee.read(backend.plugin.pointee.`self`, &request, 1)
    }
  }

  func readOneByOne() -> Double {
    let count = 2_000
    let start = nowNs()
    for index in 0..<count { precondition(backend.read(values.uris[index].text).code == BP_OK) }
    return Double(count) / ((nowNs() - start) / 1e9)
  }
}
