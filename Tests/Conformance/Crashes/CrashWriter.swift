import Glibc
import PluginAPI
import PluginTestHost

/// The process that is killed: it serves the backend and says what was acknowledged.
public enum CrashWriter {
  /// Does as ordered and returns when that has an end. `say` writes one line to the parent at once, from any thread.
  public static func run(
    _ plugin: PluginUnderTest, _ order: CrashOrder, say: @escaping @Sendable ([UInt8]) -> Void
  ) async {
    @Sendable func line(_ line: CrashLine) { if let text = try? WriterProcess.encoded(line) { say(text) } }
    let bench = Workbench(
      plugin, Recording(seed: order.seed, only: []) { _ in }, seed: order.seed, ownsProcess: true, extent: .quick)
    do {
      try await bench.serving(in: order.stateDirectory) { host in
        let driver = try BackendDriver(host)
        switch order.work {
        case .writeForEver(let from): try await writeForEver(driver, order.seed, from, line)
        case .runOutOfRoom: try await runOutOfRoom(driver, order, line)
        }
        if case .runOutOfRoom = order.work {
          line(.stopped(isHealthy: host.health.map { $0.state == .healthy } ?? true))
        }
      }
    } catch { line(.failed("\(error)")) }
  }

  private static func writeForEver(
    _ driver: BackendDriver, _ seed: UInt64, _ from: [Int], _ line: @escaping @Sendable (CrashLine) -> Void
  ) async throws {
    let plan = CrashPlan(seed: seed, traits: driver.traits)
    try await OwnThreads.run(from.count) { writer in
      var number = from[writer]
      while true {
        let unit = number
        let answer = try Waiting.apply(driver, plan.unit(writer, unit), CrashPlan.stamp(unit)) { answer in
          guard answer.code == BP_OK else { return }
          line(.acknowledged(writer: writer, number: unit, durability: answer.durability))
        }
        try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
        number += 1
      }
    }
  }

  /// A bound on the size of this process's files stands for the end of the disk.
  private static func runOutOfRoom(
    _ driver: BackendDriver, _ order: CrashOrder, _ line: (CrashLine) -> Void
  ) async throws {
    let small = NoRoomPlan.small
    let first = try await driver.apply([.put(small.uri, small.data)], stamp: 1)
    try require(first.code == BP_OK, "apply failed with code \(first.code): \(first.message)")
    signal(SIGXFSZ, SIG_IGN)
    var before = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before)
    var limit = rlimit(rlim_cur: NoRoomPlan.fileBytesMax(order.stateDirectory), rlim_max: before.rlim_max)
    setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
    var failed: Int?
    for number in 0..<NoRoomPlan.largeCount where failed == nil {
      let large = NoRoomPlan.large(number)
      let answer = try await driver.apply([.put(large.uri, large.data)], stamp: UInt64(number + 2))
      if answer.code != BP_OK { failed = number }
      line(.large(number: number, code: answer.code, message: answer.message))
    }
    line(.read(code: try await driver.beginRead(small.uri).value.code))
    setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before)
    guard let failed else { return }
    let large = NoRoomPlan.large(failed)
    let answer = try await driver.apply([.put(large.uri, large.data)], stamp: 100)
    line(.large(number: failed, code: answer.code, message: answer.message))
  }
}

/// What is written until there is no room.
enum NoRoomPlan {
  static let largeCount = 24
  private static let largeBytes = 400_000

  static let small = (uri: "\(TraceRun.roots[0])/room/small", data: Array("\"small\"".utf8))

  static func large(_ number: Int) -> (uri: String, data: [UInt8]) {
    (
      "\(TraceRun.roots[0])/room/large/\(number)",
      [UInt8(ascii: "\"")] + [UInt8](repeating: 0x61 + UInt8(number % 26), count: largeBytes) + [UInt8(ascii: "\"")]
    )
  }

  /// Somewhat more than the largest file that there is, and less than one large record.
  static func fileBytesMax(_ directory: String) -> UInt {
    let sizes = WriterProcess.files(in: directory).map(\.size)
    return UInt((sizes.max() ?? 0) + largeBytes / 2)
  }
}
