import JSONText
import PluginAPI

/// The ops of an envelope: the envelope itself, then its outputs in order.
///
/// An op points into the message wherever it can. What is not there as it is needed (a URI with escapes, decoded bytes)
/// stands in `text`, and such views are set when nothing is appended any more.
package struct EnvelopeVerdict {
  /// The most outputs of one envelope.
  package static let outputsMax = 100_000

  private enum Field { case uri, data }

  private struct Placement {
    let op: Int
    let field: Field
    let range: Range<Int>
  }

  private var ops: [bp_op] = []
  private var text: [UInt8] = []
  private var placements: [Placement] = []

  /// - Parameters:
  ///   - first: the op that stores the envelope itself.
  ///   - check: asked about every output, first to last, as it will stand in its op; the first refusal ends it.
  package init(
    _ envelope: MessageEnvelope, storedBy first: bp_op,
    check: (_ uri: BorrowedBytes, _ content: MessageContent) throws(Refusal) -> Void = { _, _ throws(Refusal) in }
  ) throws(Refusal) {
    guard envelope.outputCount <= Self.outputsMax else {
      throw Refusal(
        "Validation error: the envelope has \(envelope.outputCount) outputs, and \(Self.outputsMax) is the most that "
          + "one may have: send several envelopes.")
    }
    ops.reserveCapacity(envelope.outputCount + 1)
    ops.append(first)
    for output in envelope.outputs { try append(output, check) }
  }

  /// Calls `body` with the ops; their views are valid during the call.
  package consuming func withOps(_ body: (UnsafeBufferPointer<bp_op>) -> Void) {
    let text = text
    text.withUnsafeBufferPointer { text in
      for placement in placements {
        let view = bp_view(BorrowedBytes(rebasing: text[placement.range]))
        switch placement.field {
        case .uri: ops[placement.op].uri = view
        case .data: ops[placement.op].data = view
        }
      }
      ops.withUnsafeBufferPointer(body)
    }
  }

  private mutating func append(
    _ output: EnvelopeOutput, _ check: (BorrowedBytes, MessageContent) throws(Refusal) -> Void
  ) throws(Refusal) {
    var op = bp_op(
      size: .size(of: bp_op.self), verb: BP_VERB_PUT, condition: BP_IF_ANY, content: BP_CONTENT_JSON, if_version: 0,
      flags: BP_OP_TO_JUDGE, reserved: 0, uri: .empty, data: .empty, refusal: .empty)
    let uriRange = place(output.uri)
    if uriRange == nil { op.uri = bp_view(output.uri.rawContent) }
    let dataRange = placeMarked(output.value)
    if dataRange == nil { op.data = bp_view(output.value.bytes) } else { op.content = BP_CONTENT_BYTES }
    let result: Result<Void, Refusal> = text.withUnsafeBufferPointer { text in
      let uri = uriRange.map { BorrowedBytes(rebasing: text[$0]) } ?? op.uri.bytes
      let data = dataRange.map { BorrowedBytes(rebasing: text[$0]) } ?? op.data.bytes
      do throws(Refusal) {
        return .success(try check(uri, MessageContent(data, isJSON: dataRange == nil)))
      } catch { return .failure(error) }
    }
    try result.get()
    if let uriRange { placements.append(Placement(op: ops.count, field: .uri, range: uriRange)) }
    if let dataRange { placements.append(Placement(op: ops.count, field: .data, range: dataRange)) }
    ops.append(op)
  }

  /// Where the text of a string with escapes now stands; nil for one without, which stands in the message.
  private mutating func place(_ string: JSONSlice) -> Range<Int>? {
    guard string.hasEscapes else { return nil }
    makeRoom(for: string)
    let start = text.count
    string.appendText(to: &text)
    return start..<text.count
  }

  /// Where the bytes of a binary marker now stand; nil for any other value.
  private mutating func placeMarked(_ value: JSONSlice) -> Range<Int>? {
    guard let marked = BinaryMarker.find(in: value) else { return nil }
    makeRoom(for: marked)
    let start = text.count
    BinaryMarker.decode(marked, into: &text)
    return start..<text.count
  }

  /// What is appended next reserves exactly what it needs; over many outputs that alone would copy all of `text` each
  /// time, so it grows by doubling here. Neither unescaping nor decoding makes a text longer than it was.
  private mutating func makeRoom(for string: JSONSlice) {
    let needed = text.count + string.bytes.count + 4
    if needed > text.capacity { text.reserveCapacity(max(needed, 2 * text.capacity)) }
  }
}
