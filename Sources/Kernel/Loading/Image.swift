import BackplaneABI
import Foundation
import Synchronization
import SystemShims

/// A plugin's image, mapped into this process for ever.
final class Image: @unchecked Sendable {
  // @unchecked: the entry is a constant of an image that is never unmapped.
  let plugin: VerifiedPlugin
  let manifest: Manifest
  let contentHash: String
  let stagedPath: String
  let sourcePath: String
  let entry: UnsafePointer<bp_entry>
  let sizeBytes: Int

  var id: String { manifest.id }
  var version: String { manifest.version }
  /// It is not mapped here, but in a child of each of its instances.
  var isIsolated: Bool { entry == ProxyTables.entry }

  init(_ plugin: VerifiedPlugin, entry: UnsafePointer<bp_entry>) {
    self.plugin = plugin
    manifest = plugin.manifest
    contentHash = plugin.contentHash
    stagedPath = plugin.stagedPath
    sourcePath = plugin.sourcePath
    self.entry = entry
    sizeBytes = (try? FileManager.default.attributesOfItem(atPath: plugin.stagedPath)[.size] as? Int) ?? 0
  }
}

extension Refusal.Code {
  static let unsettled = "plugin.unsettled"
  static let loadFailed = "plugin.load-failed"
  static let deduplicated = "plugin.deduplicated"
  static let descriptorDiffers = "plugin.descriptor-differs"
  static let tooManyImages = "plugin.too-many-images"
  static let probeCrashed = "plugin.probe-crashed"
  static let probeTimedOut = "plugin.probe-timed-out"
  static let probeFailed = "plugin.probe-failed"
  static let configurationRefused = "plugin.configuration-refused"
  static let selfTestFailed = "plugin.self-test-failed"
  static let createFailed = "plugin.create-failed"
  static let kindMissing = "plugin.kind-missing"
  static let startFailed = "plugin.start-failed"
  static let startTimedOut = "plugin.start-timed-out"
  static let listenerFailed = "slot.listener-failed"
  static let pluginMissing = "slot.plugin-missing"
  static let kindDiffers = "slot.kind-differs"
  static let wouldLoseState = "slot.would-lose-state"
  static let quarantined = "slot.quarantined"
  static let programConflict = "slot.program-conflict"
  static let stateRefused = "slot.state-refused"
  static let slotHeld = "slot.held"
  static let reloadTimedOut = "reload.timed-out"
  static let rolledBack = "slot.rolled-back"
  static let rollbackImpossible = "slot.rollback-impossible"
}

/// Opens images, each content once. The only place in the kernel that calls dlopen; the reload thread and probes alone
/// use it.
final class ImageStore: Sendable {
  private struct State {
    var byContent: [String: Image] = [:]
    var entries: Set<UnsafeRawPointer> = []
  }
  // The raw pointers are addresses to compare, never followed.
  private let state = Mutex<UncheckedState>(UncheckedState(value: State()))
  private struct UncheckedState: @unchecked Sendable {
    var value: State
  }

  /// The image of this content: mapped already, or mapped now.
  func open(_ plugin: VerifiedPlugin) throws(Refusal) -> Image {
    if let image = state.withLock({ $0.value.byContent[plugin.contentHash] }) { return image }
    let image = try ImageStore.map(plugin)
    // The loader compares names and inodes; the same address means that it took another file for this one.
    let isNew = state.withLock { $0.value.entries.insert(UnsafeRawPointer(image.entry)).inserted }
    guard isNew else {
      throw Refusal(
        file: plugin.sourcePath, phase: .loaded, code: Refusal.Code.deduplicated,
        sentence: "\(Wording.printable(plugin.sourcePath)): the system's loader took it for a file that is already "
          + "loaded, so its new code would not run; build it again (a new build id is enough) and drop it in again")
    }
    state.withLock { $0.value.byContent[plugin.contentHash] = image }
    return image
  }

  /// All images that are mapped.
  var images: [Image] { state.withLock { Array($0.value.byContent.values) } }

  static func map(_ plugin: VerifiedPlugin) throws(Refusal) -> Image {
    func refuse(_ code: String, _ sentence: String) -> Refusal {
      Refusal(
        file: plugin.sourcePath, phase: .loaded, code: code,
        sentence: "\(Wording.printable(plugin.sourcePath)): \(sentence)")
    }
    openSwiftLibraries(for: plugin)
    // Its initialisers run in here.
    let opening = MarkTable.shared.add(opening: plugin)
    defer { MarkTable.shared.remove(opening) }
    let opened = ThreadMark.own.during(.open, opening, startNs: Clock.monotonicNs()) {
      dlopen(plugin.stagedPath, RTLD_NOW | RTLD_LOCAL | Int32(bitPattern: RTLD_NODELETE_FLAG))
    }
    guard let handle = opened else {
      let reason = dlerror().map { String(cString: $0) } ?? "no reason given"
      let shown = reason.replacingOccurrences(of: plugin.stagedPath, with: "the file")
      throw refuse(
        Refusal.Code.loadFailed,
        "the system's loader refused it: \(Wording.printable(shown)); install the library it misses, or link it in")
    }
    guard let symbol = dlsym(handle, BP_ENTRY_SYMBOL) else {
      throw refuse(
        Refusal.Code.symbolMissing, "it does not export \(BP_ENTRY_SYMBOL); export that one function")
    }
    MarkTable.shared.addImage(at: symbol, of: plugin)
    typealias Entry = @convention(c) () -> UnsafePointer<bp_entry>?
    let function = unsafeBitCast(symbol, to: Entry.self)
    guard let entry = ThreadMark.own.during(.open, opening, startNs: Clock.monotonicNs(), function) else {
      throw refuse(Refusal.Code.descriptorDiffers, "\(BP_ENTRY_SYMBOL)() returned NULL; it must return the entry")
    }
    if let difference = difference(plugin.manifest, entry.pointee) {
      throw refuse(
        Refusal.Code.descriptorDiffers,
        "its manifest and its entry disagree: \(difference); make manifest.json and the code say the same")
    }
    return Image(plugin, entry: entry)
  }

  /// A plugin elsewhere does not find Foundation and the rest of Swift's libraries by itself, because a run path is not
  /// transitive: open ours first, and its name satisfies the plugin. One that we have not is left to the loader.
  private static func openSwiftLibraries(for plugin: VerifiedPlugin) {
    let wanted = plugin.neededLibraries.filter { name in
      ["libFoundation", "lib_Foundation", "libswift"].contains { name.hasPrefix($0) }
    }
    guard !wanted.isEmpty else { return }
    // Any address of the Swift runtime's says in which folder it lies.
    guard let symbol = dlsym(nil, "swift_retain"), let name = bp_shim_image_of(symbol) else { return }
    let folder = (String(cString: name) as NSString).deletingLastPathComponent
    for library in wanted { _ = dlopen("\(folder)/\(library)", RTLD_NOW | RTLD_LOCAL) }
  }

  private static func difference(_ manifest: Manifest, _ entry: bp_entry) -> String? {
    guard entry.size >= UInt32(MemoryLayout<bp_entry>.size) else {
      return "the entry struct is \(entry.size) bytes, this kernel's is \(MemoryLayout<bp_entry>.size)"
    }
    let abi = (Int(entry.abi_major), Int(entry.abi_minor))
    if abi != (manifest.abi.major, manifest.abi.minor) {
      return "the manifest says ABI \(manifest.abi), the entry \(abi.0).\(abi.1)"
    }
    if entry.id.text != manifest.id {
      return "the manifest says id '\(manifest.id)', the entry '\(Wording.printable(entry.id.text))'"
    }
    if entry.version.text != manifest.version {
      return "the manifest says version '\(manifest.version)', the entry '\(Wording.printable(entry.version.text))'"
    }
    let kinds = (0..<Int(entry.kinds_count)).map { entry.kinds[$0].text }
    if Set(kinds) != Set(manifest.kinds) {
      return "the manifest says kinds \(manifest.kinds.sorted()), the entry \(kinds.sorted())"
    }
    if entry.create == nil { return "the entry has no create function" }
    return nil
  }
}

/// RTLD_NODELETE, which Glibc's module does not import with its type.
private let RTLD_NODELETE_FLAG: UInt32 = 0x1000
