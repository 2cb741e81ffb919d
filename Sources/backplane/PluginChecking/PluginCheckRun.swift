import Conformance
import Foundation
import Kernel

/// `plugin check`: a private copy of the file, a child that opens it, and what the child told.
enum PluginCheckRun {
  /// Blocks until the child has ended, at most `timeoutMs`. A crash or a hang is a failed check, named after the check
  /// that it was in.
  static func run(
    _ file: String, seed: UInt64, configuration: String?, extent: Extent, only: [String], timeoutMs: Int
  ) throws(CommandFailure) -> ConformanceReport {
    let folder = FileManager.default.temporaryDirectory.path + "/backplane-check-" + UUID().uuidString
    let scratch = folder + "/scratch"
    // Never the file itself: it may be overwritten while it is mapped (SIGBUS).
    let copy = folder + "/plugin.so"
    do {
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: false, attributes: [.posixPermissions: 0o700])
      try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: false)
    } catch {
      throw CommandFailure(.unavailable, "\(folder) cannot be made: \(error.localizedDescription)")
    }
    defer { try? FileManager.default.removeItem(atPath: folder) }
    do {
      try FileManager.default.copyItem(
        at: URL(fileURLWithPath: file).resolvingSymlinksInPath(), to: URL(fileURLWithPath: copy))
    } catch {
      throw CommandFailure(.usage, "\(file) cannot be copied: \(error.localizedDescription)")
    }
    let request = PluginCheckRequest(
      file: copy, sourceFile: file, scratchDirectory: scratch, seed: seed, configuration: configuration,
      extent: extent, only: only)
    let ending: ChildRun.Ending
    do {
      let executable = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
      ending = try ChildRun.run(
        executable, [PluginCheckChild.argument], input: Array(try JSONEncoder().encode(request)), timeoutMs: timeoutMs)
    } catch let failure as ChildRun.Failure {
      throw CommandFailure(.unavailable, "the plugin cannot be checked: \(failure.sentence)")
    } catch {
      throw CommandFailure(.internal, "the plugin cannot be checked: \(error)")
    }
    return report(ending, seed: seed, timeoutMs: timeoutMs)
  }

  private static func report(_ ending: ChildRun.Ending, seed: UInt64, timeoutMs: Int) -> ConformanceReport {
    var report = ConformanceReport(seed: seed)
    var open: String?
    for line in ending.output.split(separator: 0x0a) {
      guard let progress = try? JSONDecoder().decode(ConformanceProgress.self, from: Data(line)) else { continue }
      switch progress {
      case .began(let name): open = name
      case .ended(let check):
        report.checks.append(check)
        open = nil
      case .capability(let capability): report.capabilities.append(capability)
      }
    }
    guard !ending.isClean else { return report }
    let place = open ?? "after \(report.checks.last?.name ?? "the start")"
    let detail =
      ending.isTimedOut
      ? "it was still in this check after \(timeoutMs / 1_000) s, the time for all checks (--timeout); it was ended"
      : "it crashed in this check: \(ending.cause)\(tail(ending.errors))"
    report.checks.append(Check(name: place, passed: false, detail: detail + ". What follows was not checked."))
    return report
  }

  /// The last line that it wrote to standard error.
  private static func tail(_ errors: [UInt8]) -> String {
    guard let line = String(decoding: errors, as: UTF8.self).split(whereSeparator: \.isNewline).last else { return "" }
    return "; its last words: \(line.prefix(300))"
  }
}
