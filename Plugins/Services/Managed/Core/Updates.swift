import ManagedNode
import MessageCrypto

/// Software that the operator has published for this node.
extension Manager {
  private static let folder = "updates"
  private static let plugins = "plugins.d"

  func checkForUpdate() async {
    watchUpdate()
    let document = ManagedDocument.update(operatorKey: identity.operatorKey, nodeId: identity.nodeID)
    do {
      // What cannot be read is complained of with the configuration.
      guard let record = try? await around.store.read(document.uri), !isEnding else { return }
      let opened = try document.open(record.data, decryptionKey: identity.recipient)
      let manifest: UpdateManifest
      do throws(DocumentError) {
        manifest = try UpdateManifest(opened.payload.bytes)
      } catch { throw document.invalid(error) }
      try await consider(manifest)
    } catch {
      complain("update", "[managed] Update check error: \(error)", once: true)
    }
    updateHealth()
  }

  private func consider(_ manifest: UpdateManifest) async throws(Trouble) {
    var state = UpdateState(around.files)
    if state.announced != manifest.version {
      info("[managed] Update available: v\(manifest.version) at \(SourceURL.shown(manifest.moduleUrl))")
      info("[managed] Release notes: \(manifest.releaseNotes ?? "(none)")")
      around.meter.updated("announced")
      state.announced = manifest.version
      try state.save(around.files)
    }
    guard settings.updates != .announce else { return updateTrouble = nil }
    let key = UpdateState.key(manifest)
    if state.manifest != key {
      (state.manifest, state.outcome, state.reason) = (key, "", "")
      updateTrouble = nil
      watched = nil
    }
    if !state.reason.isEmpty { updateTrouble = "update v\(manifest.version): \(state.reason)" }
    let staged = try await stage(manifest, &state)
    guard let staged, settings.updates == .apply, state.outcome == "staged" else { return }
    await takeTurn()
    defer { turn.end() }
    try await install(staged.bytes, staged.note, manifest, &state)
  }

  /// The file of the update, verified; nil when there is nothing to do. What fails for the manifest's own sake is not
  /// tried again until the manifest is another.
  private func stage(
    _ manifest: UpdateManifest, _ state: inout UpdateState
  ) async throws(Trouble) -> (bytes: [UInt8], note: PluginNote)? {
    guard state.outcome.isEmpty || (state.outcome == "staged" && settings.updates == .apply) else { return nil }
    guard let checksum = manifest.checksum, manifest.hasUsableChecksum else {
      return try fail(manifest, &state, "its checksum is not the SHA-256 of the module, 64 hexadecimal digits")
    }
    let source: SourceURL
    do throws(Trouble) { source = try SourceURL(manifest.moduleUrl) } catch {
      return try fail(manifest, &state, error.description)
    }
    guard source.kind == .sharedLibrary else {
      return try fail(manifest, &state, "\(source.text) is no plugin (.so), and this node updates nothing else")
    }
    let name = "\(Self.folder)/\(checksum.lowercased()).so"
    let limit = settings.downloadSizeBytesMax
    var bytes = around.files.read(name, sizeBytesMax: limit) ?? []
    if !Self.hasDigest(bytes, checksum) {
      switch source.place {
      case .path(let path): bytes = try StateFiles.read(path: path, sizeBytesMax: limit)
      case .network(let url):
        guard case .file(let fetched, _) = try await around.downloads.download(url, unlessTag: nil) else {
          throw Trouble("\(source.text) cannot be fetched")
        }
        bytes = fetched
      }
      guard Self.hasDigest(bytes, checksum) else {
        let found = Hexadecimal.text(bytes.withUnsafeBytes { SHA256.digest(of: $0) })
        return try fail(manifest, &state, "\(source.text) has the SHA-256 \(found), and the manifest says \(checksum)")
      }
    }
    guard let note = PluginNote(bytes) else {
      return try fail(manifest, &state, "\(source.text) is no Backplane plugin: it has no manifest")
    }
    guard state.outcome.isEmpty else { return (bytes, note) }
    if note.version != manifest.version {
      warning("[managed] The update v\(manifest.version) is the version \(note.version) of \(note.id)")
    }
    for old in around.files.names(in: Self.folder) { around.files.remove("\(Self.folder)/\(old)") }
    try around.files.write(name, bytes, mode: 0o400)
    state.outcome = "staged"
    try state.save(around.files)
    around.meter.updated("staged")
    info("[managed] Update v\(manifest.version) of \(note.id) staged at \(around.files.path(name))")
    return (bytes, note)
  }

  /// Puts the file where the kernel finds it, and looks what comes of it. What was there before comes back if need be.
  private func install(
    _ bytes: [UInt8], _ note: PluginNote, _ manifest: UpdateManifest, _ state: inout UpdateState
  ) async throws(Trouble) {
    // Without a configuration there is nothing that could be proposed again: it waits.
    guard let inForce, !isEnding else { return }
    let name = "\(Self.plugins)/\(note.id).so"
    let previous = around.files.read(name, sizeBytesMax: settings.downloadSizeBytesMax)
    if let previous { try around.files.write("\(Self.folder)/previous-\(note.id).so", previous, mode: 0o400) }
    try around.files.write(name, bytes, mode: 0o644)
    var reason: String?
    if case .refused(let refusal) = try await propose(inForce.configuration, inForce.schema) { reason = refusal }
    guard !isEnding else { return }
    let users = around.node.slots().filter { $0.plugin == note.id }
    if reason == nil, let other = users.first(where: { $0.version != note.version }) {
      reason = "the node goes on with the version \(other.version) of \(note.id)"
    }
    if let reason {
      takeBack(note)
      // So that the kernel forgets the file as well.
      _ = try await propose(inForce.configuration, inForce.schema)
      _ = try fail(manifest, &state, reason)
      return
    }
    state.outcome = "applied"
    try state.save(around.files)
    around.meter.updated("applied")
    watched = users.isEmpty ? nil : note
    info(
      "[managed] Update v\(manifest.version) of \(note.id) "
        + (users.isEmpty ? "is in place; no slot uses it" : "applied to \(users.map(\.name).joined(separator: ", "))"))
  }

  /// Whether the kernel has gone back to what was there before the update.
  private func watchUpdate() {
    guard let note = watched else { return }
    let users = around.node.slots().filter { $0.plugin == note.id }
    guard let other = users.first(where: { $0.version != note.version }) else { return }
    watched = nil
    takeBack(note)
    var state = UpdateState(around.files)
    state.outcome = "rolled_back"
    state.reason = "it was rolled back to the version \(other.version) of \(note.id)"
    if !other.message.isEmpty { state.reason += ": \(other.message)" }
    updateTrouble = "update v\(note.version): \(state.reason)"
    around.meter.updated("rolled_back")
    warning("[managed] Update v\(note.version) of \(note.id) failed: \(state.reason)")
    do throws(Trouble) { try state.save(around.files) } catch { complain("files", "[managed] \(error)") }
  }

  private func takeBack(_ note: PluginNote) {
    let name = "\(Self.plugins)/\(note.id).so"
    let kept = "\(Self.folder)/previous-\(note.id).so"
    guard let previous = around.files.read(kept, sizeBytesMax: settings.downloadSizeBytesMax),
      (try? around.files.write(name, previous, mode: 0o644)) != nil
    else { return around.files.remove(name) }
  }

  private func fail(
    _ manifest: UpdateManifest, _ state: inout UpdateState, _ reason: String
  ) throws(Trouble) -> (bytes: [UInt8], note: PluginNote)? {
    state.outcome = "failed"
    state.reason = reason
    updateTrouble = "update v\(manifest.version): \(reason)"
    around.meter.updated("failed")
    warning("[managed] Update v\(manifest.version) failed: \(reason)")
    try state.save(around.files)
    return nil
  }

  private static func hasDigest(_ bytes: [UInt8], _ checksum: String) -> Bool {
    !bytes.isEmpty
      && Hexadecimal.text(bytes.withUnsafeBytes { SHA256.digest(of: $0) }) == checksum.lowercased()
  }
}
