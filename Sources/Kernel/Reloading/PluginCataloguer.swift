import Glibc

/// Keeps the catalog: one for each kernel, used by the reload thread alone.
///
/// It never waits. A file that is still being written is left out, and what was there before stands in for it; a file
/// that vanished stands for a while, because its successor may be on its way; and the catalog says when to look again.
final class PluginCataloguer {
  /// A file may be unsettled so long; then that is a refusal, though it is taken all the same when it comes to rest.
  static let settleTimeoutMs = 10_000

  private typealias Verified = Result<VerifiedPlugin, Refusal>
  private struct Known {
    var candidate: PluginCandidate
    var result: Verified
  }
  /// What every path held when it was last taken.
  private var known: [String: Known] = [:]
  private var index: StagingIndex?
  private var settle = Settle()
  /// Since when a path has been changing, and since when one has been gone; monotonic.
  private var unsettledSinceNs: [String: UInt64] = [:]
  private var goneSinceNs: [String: UInt64] = [:]

  /// What a path held, for a kernel that goes on from here.
  struct KnownFile: Codable, Sendable {
    var path: String
    var realPath: String
    var identity: FileIdentity
    var contentHash: String
    var stagedPath: String
  }

  var knownFiles: [KnownFile] {
    known.values.compactMap { known in
      guard case .success(let plugin) = known.result else { return nil }
      let candidate = known.candidate
      return KnownFile(
        path: candidate.path, realPath: candidate.realPath, identity: candidate.identity,
        contentHash: plugin.contentHash, stagedPath: plugin.stagedPath)
    }
  }

  /// Before the first look: what stands in for files that are being written or have just gone. What cannot be used any
  /// more is left out.
  func remember(_ files: [KnownFile]) {
    for file in files {
      do throws(Refusal) {
        let (manifest, image) = try Verify(abi: Verify.kernelABI).inspect(file.stagedPath, named: file.path)
        known[file.path] = Known(
          candidate: PluginCandidate(path: file.path, realPath: file.realPath, identity: file.identity),
          result: .success(
            VerifiedPlugin(
              manifest: manifest, contentHash: file.contentHash, stagedPath: file.stagedPath, sourcePath: file.path,
              neededLibraries: image.neededLibraries, warnings: manifest.warnings + Verify.warnings(image))))
      } catch {}
    }
  }

  struct Request {
    var directories: [String]
    /// Of these the ones that need not be there.
    var optionalDirectories: Set<String> = []
    var extraPaths: [String]
    var stagingDirectory: String
    var pluginSizeBytesMax: Int
    var settleMs: Int
    var removalGraceMs: Int
    /// Files to take without waiting; a lone `*` means all.
    var now: Set<String>

    func isWanted(_ candidate: PluginCandidate) -> Bool {
      now.contains("*") || now.contains(candidate.path) || now.contains(candidate.realPath)
    }

    /// The place of a path in the order of discovery; nil when it is none of the places to look at.
    func order(of path: String) -> Int? {
      if let extra = extraPaths.firstIndex(of: path) { return directories.count + extra }
      guard let name = path.split(separator: "/").last else { return nil }
      return directories.firstIndex { path == ($0.hasSuffix("/") ? $0 : $0 + "/") + name }
    }
  }

  func catalogue(_ request: Request) -> PluginCatalog {
    var catalog = PluginCatalog()
    catalog.directories = request.directories
    if settle.windowMs != Settle(windowMs: request.settleMs).windowMs { settle = Settle(windowMs: request.settleMs) }
    let discovery = Self.discover(request.directories, request.extraPaths, optional: request.optionalDirectories)
    catalog.refusals = discovery.refusals
    catalog.notices = discovery.notices
    settle.keepOnly(Set(discovery.candidates.map(\.path)))
    var standIns: [String: Known] = [:]
    var candidates = settled(discovery.candidates, request, &standIns, &catalog)
    keepVanished(discovery.candidates, request, &standIns, &catalog)
    candidates += standIns.values.map(\.candidate)
    candidates.sort { left, right in
      let (first, second) = (request.order(of: left.path) ?? .max, request.order(of: right.path) ?? .max)
      return first == second ? left.path.utf8.lexicographicallyPrecedes(right.path.utf8) : first < second
    }
    take(candidates, request, into: &catalog)
    return catalog
  }

  private static func discover(
    _ directories: [String], _ extraPaths: [String], optional: Set<String> = []
  ) -> PluginDirectories.Discovery {
    var discovery = PluginDirectories(directories, optional: optional).scan()
    for path in extraPaths {
      do throws(Refusal) {
        discovery.candidates.append(try PluginCandidate(path: path))
      } catch { discovery.refusals.append(error) }
    }
    return discovery
  }

  // MARK: Files that are still being written

  /// The candidates that have come to rest; the predecessors of the others go to `standIns`.
  private func settled(
    _ candidates: [PluginCandidate], _ request: Request, _ standIns: inout [String: Known],
    _ catalog: inout PluginCatalog
  ) -> [PluginCandidate] {
    let now = Settle.Instant.now()
    let nowNs = Clock.monotonicNs()
    var changing: [String: UInt64] = [:]
    let settled = candidates.filter { candidate in
      if known[candidate.path]?.candidate.identity == candidate.identity || request.isWanted(candidate) { return true }
      guard case .wait(let milliseconds) = settle.verdict(candidate, at: now) else { return true }
      let sinceNs = unsettledSinceNs[candidate.path] ?? nowNs
      changing[candidate.path] = sinceNs
      catalog.recheck(inMs: milliseconds)
      if let before = known[candidate.path], case .success = before.result { standIns[candidate.path] = before }
      if nowNs - sinceNs < UInt64(PluginCataloguer.settleTimeoutMs) * 1_000_000 {
        catalog.notices.append(
          "\(Wording.printable(candidate.path)) is still being written; it is taken when it has come to rest")
      } else {
        catalog.refuse(
          candidate.path,
          Refusal(
            file: candidate.path, phase: .settled, code: Refusal.Code.unsettled,
            sentence: "\(Wording.printable(candidate.path)) is still being written after "
              + "\(PluginCataloguer.settleTimeoutMs) ms; it is taken when that has ended"))
      }
      return false
    }
    unsettledSinceNs = changing
    return settled
  }

  /// Waits until every file has come to rest that is not yet, at most `PluginCataloguer.settleTimeoutMs`: for whoever
  /// asks for a reload and wants to see its own files in the receipt. Blocks its own thread and nobody else's.
  static func awaitSettled(directories: [String], extraPaths: [String], settleMs: Int) {
    var settle = Settle(windowMs: settleMs)
    let deadlineNs = Clock.monotonicNs() + UInt64(settleTimeoutMs) * 1_000_000
    while Clock.monotonicNs() < deadlineNs {
      let now = Settle.Instant.now()
      let waits = discover(directories, extraPaths).candidates.compactMap { candidate -> Int? in
        guard case .wait(let milliseconds) = settle.verdict(candidate, at: now) else { return nil }
        return milliseconds
      }
      guard let longestMs = waits.max() else { return }
      usleep(UInt32(min(longestMs, 100)) * 1000)
    }
  }

  // MARK: Files that vanished

  /// A file that was moved away a moment ago is often on its way back: `mv new old` over a network, or a package manager
  /// that removes before it installs. Until the grace has passed its last content stands in for it.
  private func keepVanished(
    _ candidates: [PluginCandidate], _ request: Request, _ standIns: inout [String: Known],
    _ catalog: inout PluginCatalog
  ) {
    let present = Set(candidates.map(\.path))
    let nowNs = Clock.monotonicNs()
    var gone: [String: UInt64] = [:]
    for (path, before) in known where !present.contains(path) && request.order(of: path) != nil {
      guard case .success = before.result, !request.isWanted(before.candidate), Self.isStillThere(before.result) else {
        continue
      }
      let sinceNs = goneSinceNs[path] ?? nowNs
      let graceNs = UInt64(max(0, request.removalGraceMs)) * 1_000_000
      guard nowNs - sinceNs < graceNs else { continue }
      gone[path] = sinceNs
      standIns[path] = before
      catalog.recheck(inMs: Int((graceNs - (nowNs - sinceNs) + 999_999) / 1_000_000))
      catalog.refusals.removeAll { $0.file == path }
      catalog.notices.append(
        "\(Wording.printable(path)) is gone; that takes effect when it has been for "
          + "\(request.removalGraceMs) ms (reload.removal_grace_ms)")
    }
    goneSinceNs = gone
  }

  // MARK: Staging and verifying

  private func take(_ candidates: [PluginCandidate], _ request: Request, into catalog: inout PluginCatalog) {
    let staging = Staging(directory: request.stagingDirectory, pluginSizeBytesMax: Int64(request.pluginSizeBytesMax))
    let index = index(of: request.stagingDirectory)
    let results = verify(candidates, staging, index)
    var verified: [VerifiedPlugin] = []
    var kept: [String: Known] = [:]
    for (candidate, result) in zip(candidates, results) {
      switch result {
      case .success(let plugin):
        if request.extraPaths.contains(candidate.path) {
          catalog.extra[candidate.path] = plugin
        } else {
          verified.append(plugin)
        }
        catalog.notices += plugin.warnings.map { "\(Wording.printable(plugin.sourcePath)): \($0)" }
      case .failure(let refusal):
        catalog.refuse(candidate.path, refusal)
        // It is another file by now, and nobody may come to say so.
        if refusal.code == Refusal.Code.replacedWhileStaged { catalog.recheck(inMs: max(request.settleMs, 50)) }
        // What the staging directory or the moment refused may be taken at the next attempt.
        if refusal.phase == .staged { continue }
      }
      kept[candidate.path] = Known(candidate: candidate, result: result)
    }
    index.remember(
      zip(candidates, results).compactMap { candidate, result in
        (try? result.get()).map { (candidate, $0.contentHash) }
      })
    known = kept
    let (winners, notices) = PluginDirectories.winners(among: verified)
    catalog.plugins = winners
    catalog.notices += notices
  }

  private func index(of directory: String) -> StagingIndex {
    if let index, index.directory == directory { return index }
    let new = StagingIndex(stagingDirectory: directory)
    index = new
    return new
  }

  /// Side by side: hashing and copying a file takes longer than everything else before the probe.
  private func verify(
    _ candidates: [PluginCandidate], _ staging: Staging, _ index: StagingIndex
  ) -> [Verified] {
    let isKnown = candidates.map { candidate -> Verified? in
      guard let seen = known[candidate.path], seen.candidate.identity == candidate.identity,
        Self.isStillThere(seen.result)
      else { return nil }
      return seen.result
    }
    @Sendable func verify(_ candidate: PluginCandidate) -> Verified {
      do throws(Refusal) {
        let copy: StagedPlugin
        if let hash = index.contentHash(candidate), let recalled = staging.recall(candidate, contentHash: hash) {
          copy = recalled
        } else {
          copy = try staging.stage(candidate)
        }
        return .success(try Verify(abi: Verify.kernelABI).verify(copy))
      } catch { return .failure(error) }
    }
    let newCount = isKnown.count { $0 == nil }
    guard newCount > 1 else { return zip(candidates, isKnown).map { $1 ?? verify($0) } }
    let pool = WorkerPool(name: "bp-verify", threads: min(4, newCount), queueMax: Int.max)
    defer { pool.shutDown() }
    let promises = isKnown.map { seen in
      let promise = Promise<Verified>()
      if let seen { promise.set(seen) }
      return promise
    }
    // The largest first, so that none of them is left to be waited for at the end.
    let new = candidates.indices.filter { isKnown[$0] == nil }
    for index in new.sorted(by: { candidates[$0].identity.sizeBytes > candidates[$1].identity.sizeBytes }) {
      _ = pool.submit { promises[index].set(verify(candidates[index])) }
    }
    return promises.map { $0.get() }
  }

  private static func isStillThere(_ result: Verified) -> Bool {
    guard case .success(let plugin) = result else { return true }
    return access(plugin.stagedPath, R_OK) == 0
  }
}

extension PluginCatalog {
  fileprivate mutating func recheck(inMs milliseconds: Int) {
    recheckMs = min(recheckMs ?? .max, max(1, milliseconds))
  }

  fileprivate mutating func refuse(_ path: String, _ refusal: Refusal) {
    refusals.append(refusal)
    refusedFiles[path] = refusal
  }
}
