import SystemShims
import Synchronization

/// Who the handles and the addresses in the marks are: written when instances are made and images are opened, read by
/// the next start. Bounded; what finds no room has no name after a crash, and is counted.
final class MarkTable: Sendable {
  static let shared = MarkTable()

  private struct State {
    var places: [UInt64: UInt32] = [:]
    var free: [UInt32] = (0..<UInt32(BP_MARKS_INSTANCES_MAX)).reversed()
    var openings: UInt64 = 0
  }
  private let state = Mutex(State())
  /// Instances that found no room.
  let unnamed = Atomic<UInt64>(0)

  func add(_ instance: Instance) {
    let image = instance.image
    // Its code runs elsewhere: what crashes here in its name is the kernel's own.
    guard !image.isIsolated else { return }
    add(instance.handle, slot: instance.slot.name, image.id, image.version, image.contentHash)
  }

  /// A file whose initialisers are about to run: it has no instance yet. The answer stands for one in marks.
  func add(opening plugin: VerifiedPlugin) -> UInt64 {
    let handle = state.withLock { state in
      state.openings += 1
      // No instance's: theirs have an index in the low bits.
      return state.openings << 16
    }
    add(handle, slot: "", plugin.manifest.id, plugin.manifest.version, plugin.contentHash)
    return handle
  }

  private func add(_ handle: UInt64, slot: String, _ plugin: String, _ version: String, _ content: String) {
    state.withLock { state in
      guard let place = state.free.popLast() else {
        unnamed.add(1, ordering: .relaxed)
        return
      }
      state.places[handle] = place
      let entry = bp_marks_instance(place)!
      entry.pointee.generation = 0
      MarkText.write(slot, to: &entry.pointee.slot)
      MarkText.write(plugin, to: &entry.pointee.plugin)
      MarkText.write(version, to: &entry.pointee.version)
      MarkText.write(content, to: &entry.pointee.content)
      entry.pointee.handle = handle
    }
  }

  func wasPublished(_ handle: UInt64, in generation: UInt64) {
    state.withLock { state in
      guard let place = state.places[handle] else { return }
      bp_marks_instance(place)!.pointee.generation = generation
    }
  }

  func remove(_ handle: UInt64) {
    state.withLock { state in
      guard let place = state.places.removeValue(forKey: handle) else { return }
      bp_marks_instance(place)!.pointee.handle = 0
      // Last in, last out: a name stays for as long as there is room.
      state.free.insert(place, at: 0)
    }
  }

  /// The image that holds `symbol` is this plugin's. The reload thread and probes only, as whatever opens images.
  func addImage(at symbol: UnsafeRawPointer, of plugin: VerifiedPlugin) {
    bp_marks_note_images()
    guard let image = bp_marks_image_of(symbol) else { return }
    MarkText.write(plugin.manifest.id, to: &image.pointee.plugin)
    MarkText.write(plugin.manifest.version, to: &image.pointee.version)
    MarkText.write(plugin.contentHash, to: &image.pointee.content)
  }
}

/// Text in the fixed fields of a marks file.
enum MarkText {
  static func write<Field>(_ text: String, to field: inout Field) {
    withUnsafeMutableBytes(of: &field) { bytes in
      let kept = text.utf8.prefix(bytes.count - 1)
      for (index, byte) in kept.enumerated() { bytes[index] = byte }
      for index in kept.count..<bytes.count { bytes[index] = 0 }
    }
  }

  /// What a file may hold that nobody vouches for: printable, up to the first zero byte.
  static func read<Field>(_ field: Field) -> String {
    withUnsafeBytes(of: field) { bytes in
      Wording.printable(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self), lengthMax: bytes.count)
    }
  }
}
