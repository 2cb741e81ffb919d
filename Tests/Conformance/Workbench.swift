import Foundation
import PluginAPI
import PluginTestHost
import Synchronization

/// Makes instances of the plugin and clears up after them.
final class Workbench: Sendable {
  let plugin: PluginUnderTest
  let recording: Recording
  let seed: UInt64
  /// Whether counts of threads and descriptors mean anything: nobody else works in this process.
  let ownsProcess: Bool
  let extent: Extent
  private let directoriesCount = Mutex(0)

  init(_ plugin: PluginUnderTest, _ recording: Recording, seed: UInt64, ownsProcess: Bool, extent: Extent) {
    self.plugin = plugin
    self.recording = recording
    self.seed = seed
    self.ownsProcess = ownsProcess
    self.extent = extent
  }

  /// A new, empty directory.
  func makeDirectory() throws -> String {
    let number = directoriesCount.withLock { count in
      count += 1
      return count
    }
    let path = "\(plugin.scratchDirectory)/state-\(number)"
    try FileManager.default.createDirectory(
      atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    return path
  }

  func remove(_ directory: String) { try? FileManager.default.removeItem(atPath: directory) }

  func created(
    _ purpose: Context.Purpose = .serve, node: any TestNode = InMemoryNode(), timers: TestTimers = TestTimers()
  ) throws -> TestHost {
    try TestHost(creating: plugin.entry, slot: "conformance", purpose: purpose, node: node, timers: timers)
  }

  func configured(
    in directory: String, _ purpose: Context.Purpose = .serve, node: any TestNode = InMemoryNode(),
    timers: TestTimers = TestTimers()
  ) throws -> TestHost {
    let host = try created(purpose, node: node, timers: timers)
    do {
      try host.configure(plugin.effectiveConfiguration, stateDirectory: directory, purpose: purpose)
      return host
    } catch {
      recording.add(host.violations)
      throw error
    }
  }

  /// Stops and destroys the instance, and keeps what it did wrong.
  func finish(_ host: TestHost) async throws {
    defer { recording.add(host.violations) }
    defer { host.destroy() }
    try await host.stop()
  }

  /// A serving instance in a directory of its own (or in the one given), for `body`.
  func serving<R>(
    in given: String? = nil, node: any TestNode = InMemoryNode(), timers: TestTimers = TestTimers(),
    _ body: (TestHost) async throws -> R
  ) async throws -> R {
    let directory = try given ?? makeDirectory()
    defer { if given == nil { remove(directory) } }
    let host = try configured(in: directory, node: node, timers: timers)
    let result: R
    do {
      try await host.start()
      result = try await body(host)
    } catch {
      try? await finish(host)
      throw error
    }
    try await finish(host)
    return result
  }
}
