import BackendTesting
import FilesBackend
import PluginAPI

/// What a call costs when records are files. The filesystem is that of TMPDIR.
func filesBenchmark() throws {
  for durability in ["disk", "os"] {
    for (batch, count) in [(1, durability == "disk" ? 500 : 5_000), (16, 5_000), (100, 10_000)] {
      let scratch = ScratchDirectory()
      let backend = try TestBackend.started(
        FilesBackend.self, #"{"durability":"\#(durability)"}"#, stateDirectory: scratch.path)
      let driver = Driver(backend, count: count)
      for (round, name) in ["new", "again"].enumerated() {
        let start = nowNs()
        driver.put(0, count, unitsInCall: batch, version: UInt64(round + 1), CompletionCounter())
        say("files put \(name), \(durability), \(batch) at a time", Double(count) / ((nowNs() - start) / 1e9), "/s")
      }
    }
  }
  let scratch = ScratchDirectory()
  let backend = try TestBackend.started(FilesBackend.self, #"{"durability":"os"}"#, stateDirectory: scratch.path)
  let driver = Driver(backend, count: 10_000)
  let counter = CompletionCounter()
  driver.put(0, 10_000, unitsInCall: 1_000, version: 1, counter)
  measure("files read of 10,000 at random", 100_000) { driver.read(100_000, seed: 1, counter) }
  let few = Driver(backend, count: 100)
  measure("files read of 100 at random", 100_000) { few.read(100_000, seed: 1, counter) }
  measure("files page of 50", 2_000) { driver.page("mutable://open/", limit: 50, rounds: 2_000, counter) }
  measure("files page of 1,000", 100) { driver.page("mutable://open/", limit: 1_000, rounds: 100, counter) }
  measure("files list of all 10,000", 3) { precondition(backend.scan("", limit: 4_096).count == 10_000) }
}
