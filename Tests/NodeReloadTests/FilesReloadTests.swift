import Foundation
import NodeTesting
import Testing

/// Records as files: one instance at a time has the directory.
@Suite struct FilesReloads {
  /// The backend is replaced and reconfigured under writers and readers: requests wait, none fails, nothing is lost.
  @Test func theDirectoryChangesHandsUnderLoad() throws {
    func yaml(_ logSizeBytesMax: Int) -> String {
      """
      reload: {watch: false, park_timeout_ms: 60000, handover_timeout_ms: 60000}
      slots:
        main: {kind: backend, url: "file://", log_size_bytes_max: \(logSizeBytesMax)}
      """
    }
    let node = try NodeProcess(plugins: BuiltProducts.bundled + ["backend-files"], configuration: yaml(65_536))
    let isOver = Shared(false)
    let acknowledged = (0..<4).map { _ in Shared(0) }
    let failures = Shared<[String]>([])
    let clients = TestThreads()
    let port = node.port
    for (client, count) in acknowledged.enumerated() {
      clients.start {
        do {
          let connection = try HTTPConnection(port: port)
          var number = 0
          while !isOver.with({ $0 }) {
            number += 1
            let path = "open/\(client)/\(number % 50)"
            let written = try connection.post("/api/v1/receive", #"{"tx":["mutable://\#(path)",\#(number)]}"#)
            let read = try connection.get("/api/v1/read/mutable/\(path)")
            if written.status != 200 || !read.text.hasSuffix("\"data\":\(number)}") {
              failures.with { $0.append("\(path) \(number): \(written.status) \(written.text), \(read.text)") }
            }
            count.with { $0 = number }
          }
        } catch { failures.with { $0.append("\(error)") } }
      }
    }
    for round in 0..<6 {
      let before = acknowledged[0].with { $0 }
      if round % 2 == 0 {
        try PluginFile.drop(
          BuiltProducts.plugin("backend-files"), into: node.pluginsDirectory, as: "libbackplane-backend-files.so",
          stamp: "build \(round)")
      } else {
        try node.folder.write(yaml(65_536 + round), to: "backplane.yaml")
      }
      let receipt = try node.reloadDirectly(now: ["*"])
      #expect(receipt.outcome == "applied", "\(receipt)")
      #expect(Polling.until { acknowledged[0].with { $0 } > before + 5 })
    }
    // A directory that cannot be had is refused, and the one before serves on.
    try node.folder.write(
      yaml(65_536).replacing("file://", with: "file://\(node.folder.path)/no/such"), to: "backplane.yaml")
    let refused = try node.reloadDirectly(now: ["*"])
    #expect(refused.outcome == "refused", "\(refused)")
    #expect(refused.refusals.first?.message.contains("/no is not there") == true, "\(refused)")
    let before = acknowledged[0].with { $0 }
    #expect(Polling.until { acknowledged[0].with { $0 } > before + 5 })
    isOver.with { $0 = true }
    #expect(clients.join(seconds: 60))
    #expect(failures.with { $0 } == [])
    #expect(node.stop() == 0)
    // And now they are files.
    let directories = FileManager.default.enumerator(atPath: node.folder.path)?.compactMap { $0 as? String } ?? []
    let own = try #require(directories.first { $0.hasSuffix("/.backplane") })
    let records = "\(node.folder.path)/\(own.dropLast("/.backplane".count))"
    for (client, count) in acknowledged.enumerated() {
      let last = count.with { $0 }
      let file = "\(records)/mutable/open/\(client)/\(last % 50).json"
      #expect(FileManager.default.contents(atPath: file) == Data("\(last)".utf8), "\(file)")
    }
  }
}
