import Glibc
import Synchronization
import SystemShims

/// The descriptors that the node cannot do without. A plugin in the same process can close any of them; the watchdog
/// finds that out, says so, and puts them back, because each has a spare.
final class OwnDescriptors: Sendable {
  static let shared = OwnDescriptors()

  private struct Entry {
    var descriptor: Int32
    let name: String
    /// What the descriptor must be.
    let identity: String
    var spare: Int32
    /// Told when the descriptor has another number from now on; nil when that cannot be.
    let move: (@Sendable (Int32) -> Void)?
  }

  private let entries = Mutex<[Entry]>([])
  private let alarmTexts = Mutex<[String]>([])
  /// How often one was found closed or replaced.
  let lost = Atomic<UInt64>(0)

  /// Spares lie high, out of the way of who closes what he takes for his.
  private static let sparesFrom: Int32 = 512
  private static let alarmsMax = 16

  /// Sentences about what could not be put back.
  var alarms: [String] { alarmTexts.withLock { $0 } }

  /// - Parameter move: called with the number to use from now on, when another file has taken the old one's place. Nil:
  ///   nothing can be done then.
  func add(_ descriptor: Int32, _ name: String, move: (@Sendable (Int32) -> Void)? = nil) {
    guard descriptor >= 0, let identity = OwnDescriptors.identity(descriptor) else { return }
    let spare = OwnDescriptors.spare(descriptor)
    entries.withLock {
      $0.append(Entry(descriptor: descriptor, name: name, identity: identity, spare: spare, move: move))
    }
  }

  /// Before its owner closes it.
  func remove(_ descriptor: Int32) {
    let spares = entries.withLock { entries -> [Int32] in
      let spares = entries.filter { $0.descriptor == descriptor }.map(\.spare)
      entries.removeAll { $0.descriptor == descriptor }
      return spares
    }
    for spare in spares where spare >= 0 { close(spare) }
  }

  private static func spare(_ descriptor: Int32) -> Int32 {
    let high = fcntl(descriptor, F_DUPFD_CLOEXEC, sparesFrom)
    return high >= 0 ? high : fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
  }

  /// Device and inode; what has no inode of its own (an eventfd) by its kind. Nil when it is not open.
  private static func identity(_ descriptor: Int32) -> String? {
    var facts = stat()
    guard fstat(descriptor, &facts) == 0 else { return nil }
    var text = [CChar](repeating: 0, count: 64)
    let count = readlink("/proc/self/fd/\(descriptor)", &text, text.count - 1)
    let link = String(decoding: text.prefix(max(0, count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return "\(facts.st_dev):\(facts.st_ino)" + (link.hasPrefix("anon_inode") ? link : "")
  }

  /// On the watch thread.
  func check(_ kernel: KernelContext, _ threads: [MarkedThread]) {
    let found = entries.withLock { entries -> [(name: String, what: String, isMended: Bool)] in
      entries.indices.compactMap { index in
        let now = OwnDescriptors.identity(entries[index].descriptor)
        guard now != entries[index].identity else { return nil }
        let isMended = OwnDescriptors.mend(&entries[index])
        // What cannot be mended is told of once.
        let name = entries[index].name
        return (name, now == nil ? "closed" : "replaced by another file", isMended)
      }
    }
    guard !found.isEmpty else { return }
    let hopeless = Set(found.filter { !$0.isMended }.map(\.name))
    entries.withLock { $0.removeAll { hopeless.contains($0.name) } }
    let suspects = OwnDescriptors.suspects(kernel, threads)
    for (name, what, isMended) in found {
      lost.add(1, ordering: .relaxed)
      kernel.log.error(
        "a descriptor of the kernel's was taken from it",
        ["descriptor": name, "was": what, "now": isMended ? "put back" : "gone", "suspects": suspects])
      guard !isMended else { continue }
      alarmTexts.withLock { texts in
        guard texts.count < OwnDescriptors.alarmsMax else { return }
        texts.append("\(name) was \(what), and cannot be put back: restart the node (it may have been \(suspects))")
      }
    }
  }

  private static func mend(_ entry: inout Entry) -> Bool {
    guard entry.spare >= 0, identity(entry.spare) == entry.identity else { return false }
    let back = fcntl(entry.spare, F_DUPFD_CLOEXEC, entry.descriptor)
    guard back >= 0 else { return false }
    guard back != entry.descriptor else { return true }
    // The number is somebody else's now, and stays his.
    guard let move = entry.move else {
      close(back)
      return false
    }
    entry.descriptor = back
    move(back)
    return true
  }

  /// Those who run in this process, and first those who are in a call now.
  private static func suspects(_ kernel: KernelContext, _ threads: [MarkedThread]) -> String {
    var names = threads.compactMap(\.instance).filter { $0.kernel === kernel && $0.proxy == nil }.map(\.image.id)
    if let lease = kernel.ring.acquireAdmitted() {
      names += lease.generation.slots.filter { $0.proxy == nil }.map(\.image.id)
      kernel.ring.release(lease)
    }
    var seen: Set<String> = []
    return names.filter { seen.insert($0).inserted }.joined(separator: ", ")
  }
}
