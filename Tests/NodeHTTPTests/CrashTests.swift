import Foundation
import NodeTesting
import Testing

@Suite struct CrashTests {
  /// kill -9 in the middle of writing: what was acknowledged is there afterwards.
  @Test func noAcknowledgedWriteIsLost() throws {
    let folder = try TemporaryFolder()
    var acknowledged: [Int: Int] = [:]
    for round in 0..<3 {
      let node = try NodeProcess(folder: folder, environment: ["BACKEND_URL": "sqlite://"])
      // Everything the lives before had acknowledged, one by one.
      let reader = try HTTPConnection(port: node.port)
      for (writer, count) in acknowledged {
        for index in 0..<count {
          let read = try reader.get("/api/v1/read/mutable/crash/\(writer)/\(index)")
          guard read.text.hasSuffix(#","data":{"writer":\#(writer),"index":\#(index)}}"#) else {
            Issue.record("lost in life \(round): \(writer)/\(index): \(read.text)")
            break
          }
        }
      }
      let counts = Counts()
      let enough = DispatchSemaphore(value: 0)
      let writers = Thread {
        try? onThreads(8) { thread in
          let writer = round * 8 + thread
          let client = try HTTPConnection(port: node.port)
          for index in 0..<100_000 {
            let answer = try client.post(
              "/api/v1/receive",
              #"{"tx":["mutable://crash/\#(writer)/\#(index)",{"writer":\#(writer),"index":\#(index)}]}"#)
            guard answer.status == 200, answer.headers["x-backplane-durability"] == "disk" else { return }
            if counts.add(writer) == 400 { enough.signal() }
          }
        }
        enough.signal()
      }
      writers.start()
      enough.wait()
      node.signal(SIGKILL)
      _ = node.wait()
      while !writers.isFinished { usleep(1_000) }
      let written = counts.all
      #expect(written.values.reduce(0, +) >= 400)
      acknowledged.merge(written) { $1 }
    }
    // The file as the node left it, with the sqlite3 shell.
    let found = try CommandLineTool.run("/usr/bin/find", [folder.path, "-name", "*.sqlite"], in: "/").output
    let file = try #require(found.split(separator: "\n").first.map(String.init), "no database in \(folder.path)")
    let shell = try CommandLineTool.run(
      "/usr/bin/env",
      ["sqlite3", file, "PRAGMA integrity_check; SELECT count(*) FROM records WHERE uri LIKE 'mutable://crash/%';"],
      in: folder.path)
    let lines = shell.output.split(separator: "\n")
    #expect(lines.first == "ok", "\(shell)")
    let total = acknowledged.values.reduce(0, +)
    // Above it: writes whose answer was still on its way.
    #expect((lines.last.flatMap { Int($0) } ?? 0) >= total)
    let last = try NodeProcess(folder: folder, environment: ["BACKEND_URL": "sqlite://"])
    let reader = try HTTPConnection(port: last.port)
    for (writer, count) in acknowledged {
      #expect(try reader.get("/api/v1/read/mutable/crash/\(writer)/\(count - 1)").status == 200)
    }
    #expect(last.stop() == 0)
  }

  private final class Counts: @unchecked Sendable {
    // @unchecked: guarded by `lock`.
    private let lock = NSLock()
    private var counts: [Int: Int] = [:]
    private var total = 0

    /// One more acknowledged write of `writer`; how many of all.
    func add(_ writer: Int) -> Int {
      lock.withLock {
        counts[writer, default: 0] += 1
        total += 1
        return total
      }
    }

    var all: [Int: Int] { lock.withLock { counts } }
  }
}
