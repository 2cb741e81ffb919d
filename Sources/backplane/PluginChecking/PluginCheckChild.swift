import Conformance
import Foundation
import Kernel

/// The child's side of `plugin check`: opens the plugin, runs the suite, and sends a JSON line for each step, so that
/// the parent knows which check a crash was in.
enum PluginCheckChild {
  /// The first argument that makes the executable one.
  static let argument = "__check"

  /// Runs the checks and ends the process. Blocks the calling thread; the suite runs on the default pool.
  static func main() -> Never {
    guard let entry = ChildEntry(cpuSecondsMax: 3_600, descriptorsMax: 1_024),
      let request = try? JSONDecoder().decode(PluginCheckRequest.self, from: Data(entry.input)),
      // A plugin that writes into its working directory is seen doing it.
      chdir(request.scratchDirectory) == 0
    else { exit(64) }
    Task.detached {
      if let order = request.crash {
        await write(request, order, entry)
      } else {
        await run(request) { progress in
          if let line = try? JSONEncoder().encode(progress) { entry.send(Array(line)) }
        }
      }
      entry.end()
    }
    while true { sleep(.max) }
  }

  /// The process that is killed.
  private static func write(_ request: PluginCheckRequest, _ order: CrashOrder, _ entry: ChildEntry) async {
    guard let plugin = try? open(request) else { return }
    await CrashWriter.run(plugin, order) { entry.send($0) }
  }

  private static func open(_ request: PluginCheckRequest) throws(Refusal) -> PluginUnderTest {
    let (entry, manifest) = try PluginLoader.open(request.file)
    return PluginUnderTest(
      entry: entry, scratchDirectory: request.scratchDirectory, schemes: manifest.schemes,
      listeners: manifest.listeners.map(\.name), isVolatile: manifest.isVolatile,
      stateVersion: manifest.stateVersion.map { UInt32(clamping: $0) },
      configurationSchema: manifest.configurationSchema, configuration: request.configuration,
      entryAgain: { try? PluginLoader.open(request.file).entry },
      crashCommand: { order in
        var request = request
        request.crash = order
        return CrashCommand(
          executable: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"),
          arguments: [argument, "\(getpid())"], input: Array(try JSONEncoder().encode(request)))
      })
  }

  private static func run(
    _ request: PluginCheckRequest, _ observe: @escaping @Sendable (ConformanceProgress) -> Void
  ) async {
    observe(.began(loadCheckName))
    let plugin: PluginUnderTest
    do throws(Refusal) {
      plugin = try open(request)
    } catch {
      let sentence = error.sentence.replacing(request.file, with: request.sourceFile)
      return observe(.ended(Check(name: loadCheckName, passed: false, detail: sentence)))
    }
    observe(.ended(Check(name: loadCheckName, passed: true, detail: "")))
    _ = await ConformanceSuite(
      plugin, seed: request.seed, ownsProcess: true, extent: request.extent, only: request.only
    ).run(observe)
  }
}
