import Glibc

/// What is in the plugin directories: settled, staged, verified. Files that have not changed are not read again.
struct PluginCatalog {
  var plugins: [VerifiedPlugin] = []
  var refusals: [Refusal] = []
  var notices: [String] = []
  var directories: [String] = []

  /// The plugin a slot wants; nil when there is none.
  func plugin(for slot: SlotConfiguration) -> VerifiedPlugin? {
    if let path = slot.pluginPath { return extra[path] }
    if let id = slot.plugin { return plugins.first { $0.manifest.id == id } }
    guard let scheme = slot.scheme else { return nil }
    return plugins.first { $0.manifest.schemes.contains(scheme) && $0.manifest.kinds.contains(slot.kind.rawValue) }
  }

  /// Files that slots name by path.
  var extra: [String: VerifiedPlugin] = [:]
  /// Why files are not among the plugins, by path.
  var refusedFiles: [String: Refusal] = [:]

  /// Why the file that serves a slot is not there any more, when it is the file and not the slot that has changed.
  func refusal(ofFileBehind instance: Instance?, for slot: SlotConfiguration) -> Refusal? {
    guard let instance, instance.slot.plugin == slot.plugin, instance.slot.pluginPath == slot.pluginPath,
      instance.slot.scheme == slot.scheme
    else { return nil }
    let path = instance.image.sourcePath
    return refusedFiles[path] ?? refusals.first { path.hasPrefix($0.file + "/") }
  }
}

/// Keeps the catalog: one for each kernel, used by the reload thread alone.
final class PluginCataloguer {
  /// A file may be unsettled so long; then it is refused for now.
  static let settleTimeoutMs = 10_000

  private var known: [String: (identity: FileIdentity, result: Result<VerifiedPlugin, Refusal>)] = [:]

  struct Request {
    var directories: [String]
    var extraPaths: [String]
    var stagingDirectory: String
    var pluginSizeBytesMax: Int
    var settleMs: Int
    /// Files to take without waiting; a lone `*` means all.
    var now: Set<String>
  }

  func catalogue(_ request: Request) -> PluginCatalog {
    var catalog = PluginCatalog()
    catalog.directories = request.directories
    var settle = Settle(windowMs: request.settleMs)
    let deadlineNs = Clock.monotonicNs() + UInt64(PluginCataloguer.settleTimeoutMs) * 1_000_000
    var discovery: PluginDirectories.Discovery
    var unsettledRefusals: [Refusal] = []
    while true {
      discovery = PluginDirectories(request.directories).scan()
      for path in request.extraPaths {
        do throws(Refusal) {
          discovery.candidates.append(try PluginCandidate(path: path))
        } catch { discovery.refusals.append(error) }
      }
      let unsettled = discovery.candidates.filter { candidate in
        if known[candidate.path]?.identity == candidate.identity { return false }
        if request.now.contains("*") || request.now.contains(candidate.path)
          || request.now.contains(candidate.realPath)
        {
          return false
        }
        if case .wait = settle.verdict(candidate, at: .now()) { return true }
        return false
      }
      guard let first = unsettled.first else { break }
      guard Clock.monotonicNs() < deadlineNs else {
        for candidate in unsettled {
          let refusal = Refusal(
            file: candidate.path, phase: .settled, code: Refusal.Code.unsettled,
            sentence: "\(Wording.printable(candidate.path)) is still being written after "
              + "\(PluginCataloguer.settleTimeoutMs) ms; it is taken when that has ended")
          unsettledRefusals.append(refusal)
        }
        discovery.candidates.removeAll { candidate in unsettled.contains { $0.path == candidate.path } }
        break
      }
      guard case .wait(let milliseconds) = settle.verdict(first, at: .now()) else { continue }
      usleep(UInt32(min(max(milliseconds, 1), 100)) * 1000)
    }
    take(discovery, request, into: &catalog)
    catalog.refusals += unsettledRefusals
    for refusal in unsettledRefusals { catalog.refusedFiles[refusal.file] = refusal }
    return catalog
  }

  private func take(
    _ discovery: PluginDirectories.Discovery, _ request: Request, into catalog: inout PluginCatalog
  ) {
    catalog.refusals = discovery.refusals
    catalog.notices += discovery.notices
    let staging = Staging(directory: request.stagingDirectory, pluginSizeBytesMax: Int64(request.pluginSizeBytesMax))
    var index = StagingIndex(stagingDirectory: request.stagingDirectory)
    let results = verify(discovery.candidates, staging, index)
    var verified: [VerifiedPlugin] = []
    var kept: [String: (identity: FileIdentity, result: Result<VerifiedPlugin, Refusal>)] = [:]
    for (candidate, result) in zip(discovery.candidates, results) {
      switch result {
      case .success(let plugin):
        if request.extraPaths.contains(candidate.path) {
          catalog.extra[candidate.path] = plugin
        } else {
          verified.append(plugin)
        }
        catalog.notices += plugin.warnings.map { "\(Wording.printable(plugin.sourcePath)): \($0)" }
      case .failure(let refusal):
        catalog.refusals.append(refusal)
        catalog.refusedFiles[candidate.path] = refusal
        // What the staging directory or the moment refused may be taken at the next attempt.
        if refusal.phase == .staged { continue }
      }
      kept[candidate.path] = (candidate.identity, result)
    }
    index.remember(
      zip(discovery.candidates, results).compactMap { candidate, result in
        (try? result.get()).map { (candidate, $0.contentHash) }
      })
    known = kept
    let (winners, notices) = PluginDirectories.winners(among: verified)
    catalog.plugins = winners
    catalog.notices += notices
  }

  /// Side by side: hashing and copying a file takes longer than everything else before the probe.
  private func verify(
    _ candidates: [PluginCandidate], _ staging: Staging, _ index: StagingIndex
  ) -> [Result<VerifiedPlugin, Refusal>] {
    let pool = WorkerPool(name: "bp-verify", threads: min(4, candidates.count), queueMax: Int.max)
    defer { pool.shutDown() }
    let promises = candidates.map { candidate -> Promise<Result<VerifiedPlugin, Refusal>> in
      let promise = Promise<Result<VerifiedPlugin, Refusal>>()
      if let seen = known[candidate.path], seen.identity == candidate.identity, Self.isStillThere(seen.result) {
        promise.set(seen.result)
        return promise
      }
      let recalled = index.contentHash(candidate)
      _ = pool.submit {
        do throws(Refusal) {
          let staged: StagedPlugin
          if let recalled, let copy = staging.recall(candidate, contentHash: recalled) {
            staged = copy
          } else {
            staged = try staging.stage(candidate)
          }
          promise.set(.success(try Verify(abi: Verify.kernelABI).verify(staged)))
        } catch { promise.set(.failure(error)) }
      }
      return promise
    }
    return promises.map { $0.get() }
  }

  private static func isStillThere(_ result: Result<VerifiedPlugin, Refusal>) -> Bool {
    guard case .success(let plugin) = result else { return true }
    return access(plugin.stagedPath, R_OK) == 0
  }
}
