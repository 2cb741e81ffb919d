import JSONText
import PluginAPI

/// Makes the fields of a record's document.
struct RecordEncoder {
  let collection: String
  /// The clock of this machine, which `updatedAt` and `createdAt` are of.
  let nowMs: Int64
  let timestampMs: UInt64
  let version: UInt64

  /// `{data, timestamp, updatedAt, collection, backplane}`; the URI comes from the filter of the update. Throws the
  /// limit that the record is beyond.
  func fields(of op: bp_op) throws(Failure) -> BSONBuilder {
    let value = BSONBuilder()
    let isBytes = op.content == BP_CONTENT_BYTES
    if isBytes {
      try check(Base64.encodedCount(op.data.bytes.count), op)
      appendBytes(op.data.bytes, to: value)
      return try finish(value, text: nil, op)
    }
    try check(op.data.bytes.count, op)
    if let readable = readable(op.data.bytes) {
      // Once for the peer and once for us; when that is too much, what is exact goes before what is readable.
      if let fields = try? finish(readable, text: op.data.bytes, op) { return fields }
    }
    appendStandIn(op.data.bytes, to: value)
    return try finish(value, text: nil, op)
  }

  /// `{data: <value>}`, or nil when the JSON has no faithful form.
  private func readable(_ text: BorrowedBytes) -> BSONBuilder? {
    guard case .success(let json) = JSONScanner(depthMax: JSONToBSON.depthMax, acceptsByteOrderMark: false).scan(text)
    else { return nil }
    let value = BSONBuilder()
    return JSONToBSON.append(json, "data", to: value) && value.isWhole ? value : nil
  }

  private func appendBytes(_ bytes: BorrowedBytes, to value: BSONBuilder) {
    var text: [UInt8] = []
    Base64.encode(UnsafeRawBufferPointer(bytes), into: &text)
    value.nest("data") { marker in
      marker.append("__b3nd_binary__", bool: true)
      text.withUnsafeBufferPointer { marker.append("data", text: $0) }
    }
  }

  private func appendStandIn(_ text: BorrowedBytes, to value: BSONBuilder) {
    value.nest("data") { standIn in
      // BSON says that a text is UTF-8, and some programs insist.
      if String(validating: text, as: UTF8.self) != nil {
        standIn.append("__backplane_json__", text: text)
      } else {
        standIn.append("__backplane_json__", binary: text)
      }
    }
  }

  private func finish(_ value: BSONBuilder, text: BorrowedBytes?, _ op: bp_op) throws(Failure) -> BSONBuilder {
    let fields = BSONBuilder()
    fields.append(fieldsOf: value)
    fields.append("timestamp", int64: Int64(bitPattern: timestampMs))
    fields.append("updatedAt", dateMs: nowMs)
    fields.append("collection", text: collection)
    fields.nest("backplane") { ours in
      ours.append("layout", int32: Layout.version)
      ours.append("content", int32: Int32(op.content))
      ours.append("version", int64: Int64(bitPattern: version))
      ours.append("size", int64: Int64(op.data.size))
      // What tells whether somebody else has changed the record since.
      ours.append("timestamp", int64: Int64(bitPattern: timestampMs))
      ours.append("updatedAt", dateMs: nowMs)
      ours.append("digest", int64: Int64(bitPattern: value.withBytes(digest)))
      if let text { ours.append("text", text: text) }
    }
    guard fields.isWhole else { throw tooLarge(op) }
    try check(fields.count, op)
    return fields
  }

  private func check(_ bytesCount: Int, _ op: bp_op) throws(Failure) {
    if bytesCount + op.uri.bytes.count + Layout.frameBytes > Layout.documentBytesMax { throw tooLarge(op) }
  }

  private func tooLarge(_ op: bp_op) -> Failure {
    .invalid(
      "the record has \(op.data.size) bytes, too many for a MongoDB document of \(Layout.documentBytesMax): JSON of "
        + "nearly that size fits, and bytes of three quarters of it, because they are stored as base64")
  }
}
