import Synchronization

/// The instances that did not come back: never called again, their memory and threads written off.
final class WedgedInstances: Sendable {
  struct Entry: Sendable {
    let instance: Instance
    /// Where it did not come back from.
    let call: String
    let sinceNs: UInt64

    var sentence: String {
      "an instance of \(instance.image.id) \(instance.image.version) is wedged: it did not come back from \(call) and is "
        + "never called again; restart the node to be rid of it"
    }
  }

  /// Beyond it only the count goes on: each is a plugin's thread that never ends.
  private static let entriesMax = 256
  private let entries = Mutex<[Entry]>([])

  var all: [Entry] { entries.withLock { $0 } }

  func sentence(slot: String) -> String? { entries.withLock { $0.last { $0.instance.slot.name == slot }?.sentence } }

  /// Writes an instance off. Once; what it was lent is given back, and the node says so.
  func add(_ instance: Instance, in call: String) {
    let isNew = entries.withLock { entries -> Bool in
      guard instance.state != .wedged else { return false }
      instance.state = .wedged
      if entries.count < WedgedInstances.entriesMax {
        entries.append(Entry(instance: instance, call: call, sinceNs: Clock.monotonicNs()))
      }
      return true
    }
    guard isNew else { return }
    instance.close()
    instance.giveListenersBack()
    instance.kernel.reloadCounts.withLock { $0.wedgedInstances += 1 }
    instance.kernel.log.error(
      "an instance is wedged: it did not come back and is never called again; its memory and threads are written off",
      ["slot": instance.slot.name, "plugin": instance.image.id, "version": instance.image.version, "in": call])
  }
}
