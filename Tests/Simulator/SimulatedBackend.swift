#if SIMULATION
import BackplaneABI
import SimulatedSystem

@testable import Kernel

/// A backend whose records are the numbers of writes.
class SimulatedBackend: SimulatedPlugin, @unchecked Sendable {
  // @unchecked: as SimulatedPlugin.
  private lazy var kind: UnsafeRawPointer = SimulatedPlugin.constant(
    bp_backend(
      size: UInt32(MemoryLayout<bp_backend>.size), flags: BP_BACKEND_ATOMIC, apply_mode: content.mode,
      read_mode: content.mode, scan_mode: content.mode, durability_max: BP_DURABILITY_MEMORY,
      apply: { pointer, units, count in
        for index in 0..<Int(count) { SimulatedBackend.backend(at: pointer).apply(units![index]) }
      },
      read: { pointer, reads, count in
        for index in 0..<Int(count) { SimulatedBackend.backend(at: pointer).read(reads![index]) }
      },
      scan: { pointer, scan in SimulatedBackend.backend(at: pointer).scan(scan!.pointee) }))

  private static func backend(at pointer: UnsafeMutableRawPointer?) -> SimulatedBackend {
    unsafeDowncast(SimulatedPlugin.at(pointer), to: SimulatedBackend.self)
  }

  override func kindTable(_ id: String) -> UnsafeRawPointer? { id == BP_BACKEND_ID ? kind : nil }

  // MARK: What backends differ in

  /// Before each data call.
  func use() {}
  func record(_ uri: String) -> Int? { nil }
  func put(_ uri: String, _ number: Int) {}
  var uris: [String] { [] }

  // MARK: Data calls

  private func apply(_ unit: bp_unit) {
    called("apply", unit.call)
    use()
    schedule(unit.token) { [self] in
      if fails {
        // Some fail before they have done anything, some after.
        if Dice.percent(50) { take(unit) }
        return complete(unit.token, BP_UNAVAILABLE, bp_write_result.self)
      }
      take(unit)
      var result = bp_write_result()
      result.result = SimulatedPlugin.result(BP_OK, bp_write_result.self)
      result.durability = BP_DURABILITY_MEMORY
      result.ts_ms = unit.ts_ms
      complete(unit.token, with: &result)
    } giveUp: { [self] in
      complete(unit.token, $0, bp_write_result.self)
    }
  }

  private func take(_ unit: bp_unit) {
    for index in 0..<Int(unit.ops_count) {
      let op = unit.ops[index]
      let number = Int(op.data.text.dropFirst()) ?? -1
      Report.require(number >= 0, "\(name) was given '\(op.data.text)' to write")
      node.ledger.applied(number, in: content.role.rawValue)
      put(op.uri.text, number)
      Report.trace("\(name) has w\(number)")
    }
  }

  private func read(_ read: bp_read) {
    called("read", read.call)
    use()
    let uri = read.uri.text
    schedule(read.token) { [self] in
      if fails { return complete(read.token, BP_UNAVAILABLE, bp_read_result.self) }
      let number = record(uri)
      var result = bp_read_result()
      result.result = SimulatedPlugin.result(number == nil ? BP_NOT_FOUND : BP_OK, bp_read_result.self)
      result.record.size = UInt32(MemoryLayout<bp_record>.size)
      var text = number.map { "w\($0)" } ?? ""
      text.withUTF8 { bytes in
        result.record.data = bp_view(bytes)
        complete(read.token, with: &result)
      }
    } giveUp: { [self] in
      complete(read.token, $0, bp_read_result.self)
    }
  }

  private func scan(_ scan: bp_scan) {
    called("scan", scan.call)
    use()
    let cursor = scan.cursor.text
    schedule(scan.token) { [self] in
      if fails { return complete(scan.token, BP_UNAVAILABLE, bp_scan_result.self) }
      // One at a time, so that lists take several calls.
      let next = uris.filter { $0 > cursor }.prefix(2)
      var result = bp_scan_result()
      result.result = SimulatedPlugin.result(BP_OK, bp_scan_result.self)
      result.item_size = UInt32(MemoryLayout<bp_scan_item>.size)
      guard var uri = next.first else { return complete(scan.token, with: &result) }
      uri.withUTF8 { bytes in
        var item = bp_scan_item()
        item.uri = bp_view(bytes)
        withUnsafePointer(to: &item) { item in
          result.items = item
          result.items_count = 1
          if next.count > 1 { result.cursor = bp_view(bytes) }
          complete(scan.token, with: &result)
        }
      }
    } giveUp: { [self] in
      complete(scan.token, $0, bp_scan_result.self)
    }
  }

  private var fails: Bool { Dice.percent(content.trouble == .failing ? 40 : node.style.errorPercent) }

  private func schedule(
    _ token: bp_token, finish: @escaping () -> Void, giveUp: @escaping (bp_code) -> Void
  ) {
    if content.mode == BP_MODE_ASYNC {
      let isStuck = Dice.percent(node.style.stuckPercent)
      return node.calls.add(OpenCall(self, token, isStuck: isStuck, finish: finish, giveUp: giveUp))
    }
    Pause.turn()
    if content.mode == BP_MODE_BLOCKING { Pause.some(node) }
    if content.trouble == .slow { simulation_advance(UInt64(Dice.below(20)) * 1_000_000) }
    finish()
  }
}

/// Keeps its records in a place that outlives it and that one instance at a time may use.
final class SimulatedDisk: SimulatedBackend, @unchecked Sendable {
  // @unchecked: as SimulatedPlugin.
  override func acquire() -> Bool {
    if let owner = node.diskOwner {
      Report.require(
        owner.instance.state == .wedged, "\(name) is started while \(owner.name) has the disk and is not written off")
      return false
    }
    node.diskOwner = self
    return true
  }

  override func release() {
    if node.diskOwner === self { node.diskOwner = nil }
  }

  override func use() { Report.require(node.diskOwner === self, "\(name) is used and does not have the disk") }
  override func record(_ uri: String) -> Int? { node.disk[uri] }
  override func put(_ uri: String, _ number: Int) { node.disk[uri] = number }
  override var uris: [String] { node.disk.keys.sorted() }
}
#endif
