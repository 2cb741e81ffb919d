#if SIMULATION
import BackplaneABI
import SimulatedSystem

@testable import Kernel

/// Keeps its records in memory and hands them over (backplane/state.h).
final class SimulatedMemory: SimulatedBackend, @unchecked Sendable {
  // @unchecked: as SimulatedPlugin.
  private var records: [String: Int] = [:]
  /// What has changed since a snapshot was begun.
  private var changed: Set<String>?
  private enum Import { case none, begun, complete, unreadable }
  private var importing = Import.none
  private var isUsed = false
  /// Somebody said that it may begin without its predecessor's records.
  var mayBeEmpty = false
  private var export: Export?

  /// An export that is open.
  private final class Export {
    let token: bp_token
    let phase: UInt32
    var left: [String]
    var credits: Int
    init(_ token: bp_token, _ phase: UInt32, _ left: [String], _ credits: Int) {
      self.token = token
      self.phase = phase
      self.left = left
      self.credits = credits
    }
  }

  private lazy var state: UnsafeRawPointer = SimulatedPlugin.constant(
    bp_state(
      size: UInt32(MemoryLayout<bp_state>.size), format_version: content.format,
      format_version_oldest: content.formatOldest, reserved: 0,
      export_state: { pointer, call, request, token in
        SimulatedMemory.memory(at: pointer).exportState(call, request!.pointee, token)
      },
      import_state: { pointer, call, request, token in
        SimulatedMemory.memory(at: pointer).importState(call, request!.pointee, token)
      }))

  private static func memory(at pointer: UnsafeMutableRawPointer?) -> SimulatedMemory {
    unsafeDowncast(SimulatedPlugin.at(pointer), to: SimulatedMemory.self)
  }

  override func kindTable(_ id: String) -> UnsafeRawPointer? {
    id == BP_STATE_ID ? state : super.kindTable(id)
  }

  override func use() {
    Report.require(importing != .begun, "\(name) is used before its predecessor's records have come")
    if let export, export.phase == BP_STATE_REST { Report.trace("\(name) is used while it exports its rest") }
    guard !isUsed else { return }
    isUsed = true
    Report.require(wasPublished, "\(name) is used and was never published")
  }

  private var wasPublished = false

  /// It is part of a generation from now on.
  func published() {
    guard !wasPublished else { return }
    wasPublished = true
    guard importing != .complete else { return }
    Report.require(
      mayBeEmpty || importing == .unreadable, "\(name) is published, though its predecessor's records never came")
    node.ledger.forget()
  }

  override func record(_ uri: String) -> Int? { records[uri] }
  override var uris: [String] { records.keys.sorted() }

  override func put(_ uri: String, _ number: Int) {
    Report.require(
      export?.phase != BP_STATE_REST || !node.isMovingRest, "\(name) is written to while it exports its rest")
    records[uri] = number
    if changed != nil { changed!.insert(uri) }
  }

  // MARK: Export

  private func exportState(_ call: UnsafePointer<bp_call>?, _ request: bp_state_export, _ token: bp_token) {
    called(
      request.phase == BP_STATE_ABANDON
        ? "abandon" : request.phase == BP_STATE_REST ? "export of the rest" : "snapshot",
      call)
    if request.phase == BP_STATE_ABANDON {
      changed = nil
      if let open = export, node.calls.find(open.token) == nil { export = nil }
      return complete(token, BP_OK, bp_result.self)
    }
    if let open = export {
      Report.violated("\(name) is to export while its export of phase \(open.phase) is open")
    }
    var keys = uris
    if request.phase == BP_STATE_REST {
      guard let changed else { return complete(token, BP_FAILED_PRECONDITION, bp_result.self) }
      keys = changed.sorted()
      self.changed = nil
    } else {
      changed = []
    }
    export = Export(token, request.phase, keys, Int(request.credits))
    if content.trouble == .exportHangs, Dice.percent(50) {
      _ = hang()
      return
    }
    pump(export!)
  }

  /// Emits as far as credits go, then waits for more or completes. Each chunk is a step of its own.
  private func pump(_ export: Export) {
    guard self.export === export, node.calls.find(export.token) == nil else { return }
    let isStuck = Dice.percent(node.style.stuckPercent) || content.trouble == .exportHangs
    node.calls.add(
      OpenCall(self, export.token, isStuck: isStuck) { [self] in
        step(export)
      } giveUp: { [self] in
        end(export, $0)
      })
  }

  private func step(_ export: Export) {
    if content.trouble == .exportFails, Dice.percent(40) { return end(export, BP_INTERNAL) }
    guard let uri = export.left.first else { return end(export, BP_OK) }
    guard export.credits > 0 else { return }
    export.left.removeFirst()
    export.credits -= 1
    guard let number = records[uri] else { return pump(export) }
    var text = "\(uri)=\(number)"
    let code = text.withUTF8 { bytes in
      var chunk = bp_chunk(size: UInt32(MemoryLayout<bp_chunk>.size), count: 1, bytes: bp_view(bytes))
      return HostTable.pointer.pointee.emit(handle, export.token, &chunk)
    }
    if code == BP_OK { pump(export) } else { end(export, BP_CANCELLED) }
  }

  private func end(_ export: Export, _ code: bp_code) {
    if self.export === export { self.export = nil }
    complete(export.token, code, bp_result.self)
  }

  override func grant(_ token: bp_token, _ credits: UInt32) {
    guard let export, export.token == token else { return }
    export.credits += Int(credits)
    pump(export)
  }

  override func cancelled(_ token: bp_token) {
    // It waits for credits.
    if let export, export.token == token { end(export, BP_CANCELLED) }
  }

  // MARK: Import

  private func importState(_ call: UnsafePointer<bp_call>?, _ request: bp_state_import, _ token: bp_token) {
    called("import", call)
    Report.require(!isUsed, "\(name) is to import after it has been used")
    let text = request.bytes.text
    let isLast = request.flags & BP_STATE_LAST != 0
    let isFirst = request.phase == BP_STATE_SNAPSHOT && request.sequence == 0
    importing = .begun
    let isStuck = content.trouble == .importHangs && Dice.percent(50) || Dice.percent(node.style.stuckPercent)
    node.calls.add(
      OpenCall(self, token, isStuck: isStuck) { [self] in
        if content.trouble == .importFails, Dice.percent(40) { return complete(token, BP_INTERNAL, bp_result.self) }
        if content.trouble == .importUnreadable, isFirst {
          importing = .unreadable
          return complete(token, BP_UNIMPLEMENTED, bp_result.self)
        }
        if !text.isEmpty, Defect.present != .forgottenRecords {
          let parts = text.split(separator: "=")
          records[String(parts[0])] = Int(parts[1])!
        }
        if isLast, request.phase == BP_STATE_REST { importing = .complete }
        complete(token, BP_OK, bp_result.self)
      } giveUp: { [self] in
        complete(token, $0, bp_result.self)
      })
  }
}
#endif
