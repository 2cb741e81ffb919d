import Glibc
import Foundation
import Synchronization

/// Plugin files that have crashed the node: by content, so that another build of the same plugin is not meant. On disk
/// before the file is loaded again, so that a node that crashes at every start stops doing so.
public final class Quarantine: Sendable {
  /// What is done with a slot whose plugin is in quarantine.
  public enum Policy: String, Sendable, CaseIterable, Codable {
    /// It is started in a process of its own.
    case isolate
    /// It is not started.
    case refuse
    /// It is started as if nothing had happened.
    case ignore
  }

  /// One file in quarantine.
  public struct Entry: Codable, Sendable, Equatable {
    public var plugin: String
    public var version: String
    /// SHA-256 of the file.
    public var content: String
    /// UTC, ISO 8601.
    public var since: String
    /// What it did.
    public var reason: String
  }

  /// Beyond it the oldest is let go: files that nobody has any more pile up otherwise.
  static let entriesMax = 256

  private let directory: String
  private let entries: Mutex<[Entry]>

  /// What is kept in a state directory: for the node itself, and for a command while the node does not run.
  public convenience init(stateDirectory: String) { self.init(directory: stateDirectory + "/quarantine") }

  init(directory: String) {
    self.directory = directory
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    let found = names.filter { !$0.hasSuffix(".part") }.compactMap { name in
      try? JSONDecoder().decode(Entry.self, from: Data(contentsOf: URL(fileURLWithPath: "\(directory)/\(name)")))
    }
    entries = Mutex(found.sorted { $0.since < $1.since })
  }

  /// In the order in which they came.
  public var all: [Entry] { entries.withLock { $0 } }

  /// What the file did, or nil when it is not in quarantine.
  public func reason(plugin: String, contentHash: String) -> String? {
    entries.withLock { $0.first { $0.plugin == plugin && $0.content == contentHash }?.reason }
  }

  /// Why the slot is not started; nil when it is, perhaps in a process of its own.
  func refusal(_ plugin: VerifiedPlugin, _ slot: SlotConfiguration, _ policy: Policy) -> Refusal? {
    let id = plugin.manifest.id
    guard policy == .refuse, let reason = reason(plugin: id, contentHash: plugin.contentHash) else { return nil }
    return Refusal(
      file: plugin.sourcePath, phase: .verified, code: Refusal.Code.quarantined,
      sentence: "slot '\(slot.name)': \(Wording.printable(plugin.sourcePath)) is in quarantine: \(reason); drop in "
        + "another build, or lift it with `backplane quarantine clear \(id)`")
  }

  /// Whether the slot is started in a process of its own because of what its file did.
  func isolates(_ plugin: VerifiedPlugin, _ policy: Policy) -> Bool {
    policy == .isolate && reason(plugin: plugin.manifest.id, contentHash: plugin.contentHash) != nil
  }

  /// What a crash comes to, for whoever reads of it.
  func consequence(of policy: Policy, for plugin: String) -> String {
    let lift = "`backplane quarantine clear \(plugin)` lifts that"
    return switch policy {
    case .isolate: "its slots are started in a process of their own; \(lift)"
    case .refuse: "its slots are not started; \(lift)"
    case .ignore: "it is started as before (quarantine.policy is ignore)"
    }
  }

  /// Keeps the culprit of a crash. Returns when it is on disk, or with the reason why it is not.
  func add(_ crash: CrashReport) -> String? {
    guard !crash.plugin.isEmpty, !crash.content.isEmpty, crash.content.allSatisfy(\.isHexDigit) else { return nil }
    let entry = Entry(
      plugin: crash.plugin, version: crash.version, content: crash.content, since: crash.at, reason: crash.sentence)
    return entries.withLock { entries in
      entries.removeAll { $0.content == entry.content }
      entries.append(entry)
      while entries.count > Quarantine.entriesMax { unlink("\(directory)/\(entries.removeFirst().content)") }
      return write(entry)
    }
  }

  /// Lets a plugin's files out: what is given is an id or the content's hash. Answers what was let out.
  public func clear(_ name: String) -> [Entry] {
    entries.withLock { entries in
      let cleared = entries.filter { $0.plugin == name || $0.content == name }
      entries.removeAll { $0.plugin == name || $0.content == name }
      for entry in cleared { unlink("\(directory)/\(entry.content)") }
      syncDirectory()
      return cleared
    }
  }

  private func write(_ entry: Entry) -> String? {
    mkdir(directory, 0o700)
    let path = "\(directory)/\(entry.content)"
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(entry) else { return "\(path): it cannot be encoded" }
    let descriptor = open(path + ".part", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return "\(path): \(Wording.system(errno))" }
    defer { close(descriptor) }
    let bytes = [UInt8](data)
    guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count, fsync(descriptor) == 0,
      rename(path + ".part", path) == 0
    else { return "\(path): \(Wording.system(errno))" }
    syncDirectory()
    return nil
  }

  private func syncDirectory() {
    let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
  }
}
