import Foundation
import PluginAPI

/// Runs the tool BackendCrashWriter, which does to a backend what a test cannot do in its own process.
public struct CrashTrial {
  /// "sqlite" or "files".
  public var backend: String
  /// Of the file or directory.
  public var path: String
  public var durability: String

  public struct NotBuilt: Error {}

  public init(backend: String, path: String, durability: String) {
    self.backend = backend
    self.path = path
    self.durability = durability
  }

  /// What a process that was killed while it wrote had acknowledged.
  public struct Acknowledged {
    public var written: Set<String> = []
    public var deleted: Set<String> = []
    public var wasKilled = false
  }

  /// Kills the writer once it has said `sizeBytes` of acknowledgements.
  public func kill(afterBytes sizeBytes: Int, round: Int = 0) throws -> Acknowledged {
    let (process, output) = try launch("write", round: round)
    var printed = Data()
    while printed.count < sizeBytes {
      let piece = output.fileHandleForReading.piece()
      if piece.isEmpty { break }
      printed += piece
    }
    Glibc.kill(process.processIdentifier, SIGKILL)
    printed += output.fileHandleForReading.rest()
    process.waitUntilExit()
    var acknowledged = Acknowledged()
    acknowledged.wasKilled = process.terminationReason == .uncaughtSignal
    for line in String(decoding: printed, as: UTF8.self).split(separator: "\n") {
      let name = String(line.dropFirst())
      switch line.first {
      case "+": acknowledged.written.insert(name)
      case "-": acknowledged.deleted.insert(name)
      // About to be deleted: whether it is there nobody can say.
      default: acknowledged.written.remove(name)
      }
    }
    return acknowledged
  }

  /// What the tool says in another mode, line by line.
  public func run(_ mode: String, under wrapper: [String] = []) throws -> [String] {
    let (process, output) = try launch(mode, round: 0, under: wrapper)
    let printed = output.fileHandleForReading.rest()
    process.waitUntilExit()
    return String(decoding: printed, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  /// What of the acknowledged is not as it was acknowledged, and units of which only a part is there.
  public static func faults(_ acknowledged: Acknowledged, in backend: TestBackend) -> [String] {
    var faults: [String] = []
    for name in acknowledged.written where backend.read("mutable://open/\(name)").record?.data != Array(name.utf8) {
      faults.append("\(name) is lost")
    }
    for name in acknowledged.deleted where backend.read("mutable://open/\(name)").record != nil {
      faults.append("\(name) is there again")
    }
    // A unit is there whole or not at all, acknowledged or not.
    let twins = Set(backend.scan("mutable://open/twin/", limit: 4_096).map { $0.replacing("/twin", with: "") })
    let singles = Set(backend.scan("mutable://open/", limit: 4_096).filter { !$0.contains("/twin/") })
    return faults + twins.symmetricDifference(singles).map { "of \($0) there is a half" }
  }

  private func launch(_ mode: String, round: Int, under wrapper: [String] = []) throws -> (Process, Pipe) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = wrapper + [try Self.tool(), backend, mode, path, durability, "\(round)"]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    return (process, output)
  }

  /// The tool lies beside the test bundle.
  private static func tool() throws -> String {
    let folders =
      [Bundle.main.bundleURL] + CommandLine.arguments.map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
      + [URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()]
    let found = folders.map { $0.appendingPathComponent("BackendCrashWriter").path }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
    guard let found else { throw NotBuilt() }
    return found
  }
}
