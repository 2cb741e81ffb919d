import JSONText
import PluginAPI

/// The ops of an envelope: the envelope itself, then its outputs in order.
///
/// An op points into the message wherever it can. What is not there as it is needed (a URI with escapes, decoded bytes)
/// stands in `text`, and such views are set when nothing is appended any more.
struct EnvelopeVerdict {
  /// The most outputs of one envelope.
  static let outputsMax = 100_000

  private enum Field { case uri, data }

  private struct Placement {
    let op: Int
    let field: Field
    let range: Range<Int>
  }

  private var ops: [bp_op] = []
  private var text: [UInt8] = []
  private var placements: [Placement] = []

  /// Checks every output, first to last, and stops at the first that is refused.
  init(_ envelope: MessageEnvelope, of message: bp_message) throws(Refusal) {
    guard envelope.outputCount <= Self.outputsMax else {
      throw Refusal(
        "Validation error: the envelope has \(envelope.outputCount) outputs, and \(Self.outputsMax) is the most that "
          + "one may have: send several envelopes.")
    }
    ops.reserveCapacity(envelope.outputCount + 1)
    ops.append(Self.put(message.uri, message.data, content: message.content, flags: 0))
    var reader = OutputURIReader()
    for output in envelope.outputs { try append(output, &reader) }
  }

  /// Calls `body` with the ops; their views are valid during the call.
  consuming func withOps(_ body: (UnsafeBufferPointer<bp_op>) -> Void) {
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

  private mutating func append(_ output: EnvelopeOutput, _ reader: inout OutputURIReader) throws(Refusal) {
    var op = Self.put(.empty, .empty, content: BP_CONTENT_JSON, flags: BP_OP_TO_JUDGE)
    let uriRange = place(output.uri)
    if uriRange == nil { op.uri = bp_view(output.uri.rawContent) }
    let dataRange = placeMarked(output.value)
    if dataRange == nil { op.data = bp_view(output.value.bytes) } else { op.content = BP_CONTENT_BYTES }
    let result: Result<Void, Refusal> = text.withUnsafeBufferPointer { text in
      let uri = uriRange.map { BorrowedBytes(rebasing: text[$0]) } ?? op.uri.bytes
      let data = dataRange.map { BorrowedBytes(rebasing: text[$0]) } ?? op.data.bytes
      do throws(Refusal) {
        return .success(try Self.check(uri, MessageContent(data, isJSON: dataRange == nil), &reader))
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

  /// The digest first, then the URI: the order of the reference.
  private static func check(
    _ uri: BorrowedBytes, _ content: MessageContent, _ reader: inout OutputURIReader
  ) throws(Refusal) {
    try reader.read(uri) { normalised throws(Refusal) in
      guard let normalised else {
        if DigestRule.coversUnparsable(uri) { throw DigestRule.invalid }
        throw Refusal("Invalid output URI: \(String(decoding: uri, as: UTF8.self))")
      }
      if DigestRule.covers(normalised) { try DigestRule.check(normalised, content) }
    }
  }

  private static func put(_ uri: bp_view, _ data: bp_view, content: UInt32, flags: UInt32) -> bp_op {
    bp_op(
      size: .size(of: bp_op.self), verb: BP_VERB_PUT, condition: BP_IF_ANY, content: content, if_version: 0,
      flags: flags, reserved: 0, uri: uri, data: data, refusal: .empty)
  }
}
