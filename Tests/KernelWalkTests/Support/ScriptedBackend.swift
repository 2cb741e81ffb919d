import BackplaneABI
import Synchronization

@testable import Kernel

/// A backend in memory that does as it is told.
final class ScriptedBackend: ScriptedPlugin, @unchecked Sendable {
  // @unchecked: as ScriptedPlugin.
  enum Style: Sendable {
    /// Everything completes before it returns.
    case direct
    /// Everything completes on a thread of its own.
    case ownThread
    /// Reads complete on a thread of its own; a unit waits in `held` until the test calls `finish`.
    case held
    /// Reads wait in `heldReads` until the test calls `finish`.
    case heldReads
  }

  struct Stored: Sendable, Equatable {
    var text: String
    var timestampMs: UInt64
    var version: UInt64
  }

  struct Held: @unchecked Sendable {
    // @unchecked: ops point into the request's memory, which the host must keep until the token is completed.
    let unit: bp_unit
    var uris: [String] { (0..<Int(unit.ops_count)).map { unit.ops[$0].uri.text } }
    var texts: [String] { (0..<Int(unit.ops_count)).map { unit.ops[$0].data.text } }
  }

  let held = Inbox<Held>()
  let heldReads = Inbox<UncheckedRead>()
  let cancelled = Inbox<bp_token>()
  private struct State {
    var records: [String: Stored] = [:]
    var reads: [String] = []
    /// Units of each call to apply, and their URIs in the order they took effect.
    var batches: [Int] = []
    var order: [String] = []
    /// Every write fails with this.
    var failure: bp_code?
  }
  private let state = Mutex(State())
  private let thread = WorkerPool(name: "scripted", threads: 1, queueMax: 1000)
  private let style: Style
  private let durability: UInt32
  private let kind: UnsafeRawPointer

  var records: [String: Stored] { state.withLock { $0.records } }
  /// The URIs that were asked for, in order.
  var reads: [String] { state.withLock { $0.reads } }

  var batches: [Int] { state.withLock { $0.batches } }
  /// The URIs that were written, in order.
  var order: [String] { state.withLock { $0.order } }

  /// Writes fail from now on, or succeed again.
  func fail(_ code: bp_code?) { state.withLock { $0.failure = code } }

  init(_ style: Style, durability: UInt32 = BP_DURABILITY_MEMORY) {
    self.style = style
    self.durability = durability
    let readMode = style == .direct ? BP_MODE_DIRECT : BP_MODE_ASYNC
    kind = ScriptedPlugin.constant(
      bp_backend(
        size: UInt32(MemoryLayout<bp_backend>.size), flags: BP_BACKEND_ATOMIC | BP_BACKEND_VERSIONS,
        apply_mode: readMode, read_mode: readMode, scan_mode: readMode, durability_max: durability,
        apply: { pointer, units, count in
          backend(pointer).state.withLock { $0.batches.append(Int(count)) }
          for index in 0..<Int(count) { backend(pointer).submit(Held(unit: units![index])) }
        },
        read: { pointer, reads, count in
          for index in 0..<Int(count) { backend(pointer).submit(UncheckedRead(read: reads![index])) }
        },
        scan: { pointer, scan in
          var result = bp_scan_result()
          result.result = ScriptedPlugin.result(BP_UNIMPLEMENTED, bp_scan_result.self)
          backend(pointer).complete(scan!.pointee.token, with: &result)
        }))
    super.init()
  }

  struct UncheckedRead: @unchecked Sendable {
    // @unchecked: its views live until the token is completed.
    let read: bp_read
  }

  private func submit(_ held: Held) {
    switch style {
    case .direct: finish(held)
    case .ownThread, .heldReads: _ = thread.submit { self.finish(held) }
    case .held: self.held.put(held)
    }
  }

  private func submit(_ read: UncheckedRead) {
    if style == .heldReads { return heldReads.put(read) }
    if style == .direct { self.read(read.read) } else { _ = thread.submit { self.read(read.read) } }
  }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? { id.text == "backplane.backend/1" ? kind : nil }
  override func cancel(_ token: bp_token) { cancelled.put(token) }
  override func stop() { thread.shutDown() }

  func put(_ uri: String, _ text: String, version: UInt64 = 0) {
    state.withLock { $0.records[uri] = Stored(text: text, timestampMs: 0, version: version) }
  }

  /// Applies a unit out of the request's memory, or fails it with a code, and completes it.
  func finish(_ held: Held, _ code: bp_code = BP_OK) {
    let unit = held.unit
    let (code, failedOp) = state.withLock { state in
      let code = state.failure ?? code
      return code == BP_OK ? apply(unit, &state) : (code, 0)
    }
    var result = bp_write_result()
    result.result = ScriptedPlugin.result(code, bp_write_result.self)
    result.failed_op = failedOp
    result.durability = durability
    result.ts_ms = unit.ts_ms
    complete(unit.token, with: &result)
  }

  private func apply(_ unit: bp_unit, _ state: inout State) -> (bp_code, failedOp: UInt32) {
    for index in 0..<Int(unit.ops_count) {
      let op = unit.ops[index]
      let found = state.records[op.uri.text]
      let holds =
        switch op.condition {
        case BP_IF_ABSENT: found == nil
        case BP_IF_PRESENT: found != nil
        case BP_IF_VERSION: found?.version == op.if_version
        default: true
        }
      guard holds else { return (BP_FAILED_PRECONDITION, UInt32(index)) }
    }
    for index in 0..<Int(unit.ops_count) {
      let op = unit.ops[index]
      state.order.append(op.uri.text)
      state.records[op.uri.text] =
        op.verb == BP_VERB_DELETE ? nil : Stored(text: op.data.text, timestampMs: unit.ts_ms, version: unit.version)
    }
    return (BP_OK, 0)
  }

  func finish(_ read: UncheckedRead) { self.read(read.read) }

  private func read(_ read: bp_read) {
    let uri = read.uri.text
    let found = state.withLock { state in
      state.reads.append(uri)
      return state.records[uri]
    }
    var result = bp_read_result()
    result.result = ScriptedPlugin.result(found == nil ? BP_NOT_FOUND : BP_OK, bp_read_result.self)
    result.record.size = UInt32(MemoryLayout<bp_record>.size)
    result.record.version = found?.version ?? 0
    var text = found?.text ?? ""
    text.withUTF8 { bytes in
      result.record.data = bp_view(bytes)
      complete(read.token, with: &result)
    }
  }
}

private func backend(_ pointer: UnsafeMutableRawPointer?) -> ScriptedBackend {
  unsafeDowncast(ScriptedPlugin.at(pointer), to: ScriptedBackend.self)
}
