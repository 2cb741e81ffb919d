import BackendSupport
import JSONText
import PluginAPI
import URIText

/// Whether a unit of several ops is what an envelope comes to: then the envelope alone is sent, and the remote makes the
/// same of it, all or nothing as far as it can.
enum EnvelopeUnit {
  /// As deep as the kernel judges (schema.h).
  private static let depthMax = 16

  static func isExpansion(_ unit: some OpList) -> Bool {
    guard unit.count > 1 else { return true }
    let first = unit[0]
    guard !first.isDelete, first.content == BP_CONTENT_JSON,
      case .success(let value) = JSONScanner(depthMax: 1_000_000).scan(first.data.bytes)
    else { return false }
    var index = 1
    return matches(value, unit, &index, depth: 0) && index == unit.count
  }

  /// Whether the ops from `index` on are the outputs of `value`, each followed by its own.
  private static func matches(_ value: JSONSlice, _ unit: some OpList, _ index: inout Int, depth: Int) -> Bool {
    guard let envelope = MessageEnvelope.find(in: value) else { return true }
    guard depth < depthMax else { return false }
    for output in envelope.outputs {
      guard index < unit.count else { return false }
      let op = unit[index]
      index += 1
      guard !op.isDelete, isSame(output.uri, op.uri.bytes) else { return false }
      if let marked = BinaryMarker.find(in: output.value) {
        var decoded: [UInt8] = []
        BinaryMarker.decode(marked, into: &decoded)
        guard op.content == BP_CONTENT_BYTES, op.data.bytes.elementsEqual(decoded) else { return false }
      } else {
        guard op.content == BP_CONTENT_JSON, op.data.bytes.elementsEqual(output.value.bytes),
          matches(output.value, unit, &index, depth: depth + 1)
        else { return false }
      }
    }
    return true
  }

  /// A schema may have folded the case of a URI; the remote's own schema will do the same, or judge.
  private static func isSame(_ written: JSONSlice, _ normal: BorrowedBytes) -> Bool {
    var text: [UInt8] = []
    written.appendText(to: &text)
    return text.withUnsafeBufferPointer { text in
      let room = URIText.scratchBytes(forInputBytes: text.count)
      return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: room) { scratch in
        func equal(_ bytes: BorrowedBytes) -> Bool {
          bytes.count == normal.count
            && zip(bytes, normal).allSatisfy { $0 == $1 || ($0 | 0x20 == $1 | 0x20 && $0 | 0x20 >= 0x61) }
        }
        switch URIText.normalise(text, into: scratch) {
        case .unchanged: return equal(text)
        case .written(let length, _): return equal(BorrowedBytes(rebasing: UnsafeBufferPointer(scratch)[..<length]))
        case .invalid, .tooLong: return false
        }
      }
    }
  }
}
