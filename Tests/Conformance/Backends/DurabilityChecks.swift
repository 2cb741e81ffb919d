import PluginAPI
import PluginTestHost

/// What an acknowledgement says, and whether it is true of a new start.
struct DurabilityChecks {
  let bench: Workbench
  private let root = TraceRun.roots[0]

  init(_ bench: Workbench) { self.bench = bench }

  func run() async {
    let uri = "\(root)/durable"
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
        let driver = try BackendDriver(host)
        let isRemote = driver.traits.isRemote
        let record = try await driver.read(uri)
        try require(
          record?.data == Array("kept".utf8) && record?.content == .bytes
            && (isRemote || record?.timestampMs == BackendDriver.timestampMs(5)),
          "a record was not there after a new start; say \"volatile\": true in manifest.json when that is meant")
      }
      return ""
    }
  }
}
