import Foundation
import Synchronization

/// Which slots have missed a write that was acknowledged: on disk before the acknowledgement, so that a restart does not
/// forget it. A slot leaves the list when what it missed has arrived, or by `backplane backend accept NAME`.
public final class BehindRegistry: Sendable {
  private struct Entry {
    var missed: Int
    var reason: String
    /// Misses of an earlier run: nothing but the operator clears those.
    var isSticky: Bool
  }

  private let directory: String
  private let entries: Mutex<[String: Entry]>

  /// - Parameter directory: made when the first write is missed.
  public init(directory: String) {
    self.directory = directory
    entries = Mutex(BehindRegistry.read(directory))
  }

  /// Reads the directory anew: the kernel before this one has written to it until now. What it says of a slot is the
  /// operator's to clear, unless it is gone again.
  func reread() {
    entries.withLock { entries in
      let found = BehindRegistry.read(directory)
      entries = entries.filter { found[$0.key] != nil || $0.value.missed > 0 }
      entries.merge(found) { known, _ in known }
    }
  }

  private static func read(_ directory: String) -> [String: Entry] {
    var found: [String: Entry] = [:]
    for name in (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? [] {
      let text = (try? String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8)) ?? ""
      found[name] = Entry(missed: 0, reason: text.trimmingCharacters(in: .whitespacesAndNewlines), isSticky: true)
    }
    return found
  }

  /// Why a slot is behind, or nil when it is not.
  public func reason(_ slot: String) -> String? { entries.withLock { $0[slot]?.reason } }

  func missed(_ instance: Instance, reason: String) {
    let name = instance.slot.name
    let isNew = entries.withLock { entries -> Bool in
      let isNew = entries[name] == nil
      entries[name, default: Entry(missed: 0, reason: reason, isSticky: false)].missed += 1
      // Written under the lock: the acknowledgement of a second miss must not overtake the record of the first.
      if isNew { write(name, reason) }
      return isNew
    }
    instance.isBehind.store(true, ordering: .releasing)
    if isNew {
      instance.kernel.log.warning(
        "a backend missed an acknowledged write and is behind; it is not read from while another can answer",
        ["slot": name, "reason": Redaction.redact(reason)])
    }
  }

  /// A write that had been acknowledged without this backend has arrived there after all.
  func caughtUp(_ instance: Instance) {
    let name = instance.slot.name
    let isClear = entries.withLock { entries -> Bool in
      guard var entry = entries[name] else { return false }
      entry.missed -= 1
      if entry.missed > 0 || entry.isSticky {
        entries[name] = entry
        return false
      }
      entries[name] = nil
      unlink("\(directory)/\(name)")
      return true
    }
    if isClear { instance.isBehind.store(false, ordering: .releasing) }
  }

  /// The operator says that the slot's data is good as it is. False when it was not behind.
  public func accept(_ slot: String) -> Bool {
    entries.withLock { entries in
      guard entries.removeValue(forKey: slot) != nil else { return false }
      unlink("\(directory)/\(slot)")
      return true
    }
  }

  private func write(_ slot: String, _ reason: String) {
    mkdir(directory, 0o700)
    let descriptor = open("\(directory)/\(slot)", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    let text = Array((Redaction.redact(reason) + "\n").utf8)
    _ = text.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    fsync(descriptor)
    let parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if parent >= 0 {
      fsync(parent)
      close(parent)
    }
  }
}
