import BackplaneABI
import Foundation
import Synchronization

@testable import Kernel

/// The kernel without its directories and files: a ring, a reaper, the tables of requests, and scripted instances.
final class WalkNode {
  let context: KernelContext
  private let reaper: Reaper
  private let directory: String
  private var made: [(plugin: ScriptedPlugin, instance: Instance)] = []
  private(set) var caller: Instance!
  private var current: Generation?

  init() {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("walk-" + UUID().uuidString).path
    context = KernelContext(
      log: KernelLog(NodeConfiguration.Log(level: .error, format: .text)), repairs: RepairRegistry(directory: directory)
    )
    reaper = Reaper(context)
    context.repairs.begin(Repairer(context))
    caller = instance("clients", .transport, ScriptedTransport())
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  func instance(_ name: String, _ kind: SlotConfiguration.Kind, _ plugin: ScriptedPlugin) -> Instance {
    let instance = Instance.scripted(name, kind, plugin, context)
    made.append((plugin, instance))
    return instance
  }

  /// Publishes the next generation, and lets go of the one before as a reload does.
  func publish(schema: Instance, backends: [Instance], _ policy: WritePolicy = .all) {
    let slots = [caller!, schema] + backends
    let number = context.ring.nextNumber()!
    for instance in slots {
      instance.generations.add(1, ordering: .relaxed)
      instance.bornGeneration.store(number, ordering: .relaxed)
    }
    let generation = Generation(
      number: number, slots: slots,
      programs: ScriptedSchema.programs.map { .init(key: Array($0.utf8), schema: schema, flags: 0) }, fallback: nil,
      writePolicy: policy)
    context.ring.publish(generation)
    supersede(keeping: slots)
    current = generation
  }

  private func supersede(keeping slots: [Instance]) {
    guard let old = current else { return }
    reaper.supersede(old, leaving: old.slots.filter { instance in !slots.contains { $0 === instance } })
  }

  /// Ends it; true when every instance has been destroyed, no request is left and no lease is held.
  func shutDown() -> Bool {
    context.ring.close()
    supersede(keeping: [])
    for (_, instance) in made where instance.bornGeneration.load(ordering: .relaxed) == 0 {
      reaper.discard(instance)
    }
    let isDrained = reaper.drain(untilNs: Clock.monotonicNs() + patienceNs)
    reaper.shutDown()
    let isEmpty = context.requests.count == 0
    context.shutDown()
    return isDrained && isEmpty && made.allSatisfy { $0.plugin.destroyed.get(untilNs: 0) == true }
  }

  /// Sends a message as a transport does.
  func receive(_ uri: String, _ text: String, within milliseconds: UInt64? = nil) -> Message {
    let message = Message()
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    if let milliseconds { call.deadline_ns = Clock.monotonicNs() + milliseconds * 1_000_000 }
    var uri = uri
    message.token = uri.withUTF8 { uri in
      var request = bp_receive(
        size: UInt32(MemoryLayout<bp_receive>.size), content: BP_CONTENT_BYTES, uri: bp_view(uri),
        data: message.body(text))
      return NodeTable.pointer.pointee.receive(caller.handle, &call, &request, message.completion)
    }
    return message
  }

  /// Deletes as a transport does.
  func remove(_ uri: String) -> Message {
    let message = Message()
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    var uri = uri
    message.token = uri.withUTF8 {
      NodeTable.pointer.pointee.remove(caller.handle, &call, bp_view($0), message.completion)
    }
    return message
  }

  /// How long drains take.
  func limit(_ limits: Reaper.Limits) { reaper.apply(limits) }

  func cancel(_ message: Message) { HostTable.pointer.pointee.cancel(caller.handle, message.token) }
}

final class ScriptedTransport: ScriptedPlugin, @unchecked Sendable {
  // @unchecked: as ScriptedPlugin.
  private let kind = ScriptedPlugin.constant(
    bp_transport(size: UInt32(MemoryLayout<bp_transport>.size), flags: 0, connections: { _ in 0 }))
  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? { id.text == "backplane.transport/1" ? kind : nil }
}

/// One message of a client's.
final class Message: @unchecked Sendable {
  // @unchecked: `token` is written by the sending thread, which alone reads it.
  struct Answer: Sendable, Equatable {
    var code: bp_code
    var text = ""
    var durability: UInt32 = 0
  }

  var token: bp_token = 0
  let answer = Promise<Answer>()
  /// Set when the node has let go of the body, which is overwritten then.
  let released = Promise<Bool>()
  /// Answers beyond the first.
  let answersCount = Atomic<Int>(0)

  var isReleased: Bool { released.get(untilNs: 0) != nil }

  fileprivate func body(_ text: String) -> bp_buffer {
    let body = Body(text, released)
    return bp_buffer(
      data: UnsafePointer(body.bytes.baseAddress), size: UInt64(body.bytes.count),
      owner: Unmanaged.passRetained(body).toOpaque(),
      release: { Unmanaged<Body>.fromOpaque($0!).release() })
  }

  private final class Body {
    let bytes: UnsafeMutableBufferPointer<UInt8>
    let released: Promise<Bool>

    init(_ text: String, _ released: Promise<Bool>) {
      bytes = .allocate(capacity: text.utf8.count)
      _ = bytes.initialize(from: text.utf8)
      self.released = released
    }

    deinit {
      bytes.update(repeating: 0xA5)
      bytes.deallocate()
      released.set(true)
    }
  }

  fileprivate var completion: bp_completion {
    bp_completion(
      // Kept for ever, so that a second answer would be counted instead of crashing.
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        let message = Unmanaged<Message>.fromOpaque(context!).takeUnretainedValue()
        var answer = Answer(code: result!.pointee.code, text: result!.pointee.message.text)
        if answer.code == BP_OK {
          answer.durability =
            UnsafeRawPointer(result!).assumingMemoryBound(to: bp_write_result.self).pointee.durability
        }
        message.answersCount.add(1, ordering: .relaxed)
        message.answer.set(answer)
      }, chunk: nil)
  }
}
