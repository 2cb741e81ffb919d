import CMongoC
import JSONText
import PluginAPI

/// A record as its document says it, borrowed from the document.
struct FoundDocument {
  var uri: BorrowedBytes
  var timestampMs: UInt64
  /// 0 when another program has written the record since, or first.
  var version: UInt64
  /// From our note; nil when another program has written the record.
  var noted: Note?
  /// nil: the document was asked for without it, or has none.
  var data: BSONReader?

  struct Note {
    var content: UInt32
    var sizeBytes: UInt64
    var digest: UInt64?
    var text: BorrowedBytes?
  }
}

enum RecordDecoder {
  /// nil when the document is no record: it has no text in `uri`.
  static func read(_ document: OpaquePointer) -> FoundDocument? {
    guard let fields = BSONReader(document) else { return nil }
    var uri: BorrowedBytes?
    var timestamp: Int64?
    var updatedMs: Int64?
    var ours = Ours()
    var data: BSONReader?
    while fields.next() {
      if fields.isAt("uri") {
        uri = fields.text
      } else if fields.isAt("timestamp") {
        // Whatever number the writer's language made of it.
        timestamp = fields.integer ?? (fields.type == BSON_TYPE_DOUBLE ? Int64(saturating: fields.double) : nil)
      } else if fields.isAt("updatedAt") {
        updatedMs = fields.dateMs
      } else if fields.isAt("data") {
        data = BSONReader(document, at: "data")
      } else if fields.isAt("backplane"), let inner = fields.fields {
        ours.read(inner)
      }
    }
    guard let uri else { return nil }
    var found = FoundDocument(
      uri: uri, timestampMs: UInt64(bitPattern: timestamp ?? 0), version: 0, noted: nil, data: data)
    let isOurs =
      ours.layout == Int64(Layout.version) && ours.timestamp != nil && ours.timestamp == timestamp
      && ours.updatedMs != nil && ours.updatedMs == updatedMs
    if isOurs, let content = ours.content, let size = ours.size, let version = ours.version {
      found.version = UInt64(bitPattern: version)
      found.noted = FoundDocument.Note(
        content: UInt32(truncatingIfNeeded: content), sizeBytes: UInt64(bitPattern: size),
        digest: ours.digest.map { UInt64(bitPattern: $0) }, text: ours.text)
    } else {
      // A time that is no whole number of milliseconds since 1970 was not written by a node.
      found.timestampMs = UInt64(clamping: max(0, timestamp ?? 0))
    }
    return found
  }

  private struct Ours {
    var layout: Int64?
    var content: Int64?
    var version: Int64?
    var size: Int64?
    var timestamp: Int64?
    var updatedMs: Int64?
    var digest: Int64?
    var text: BorrowedBytes?

    mutating func read(_ fields: BSONReader) {
      while fields.next() {
        if fields.isAt("layout") {
          layout = fields.integer
        } else if fields.isAt("content") {
          content = fields.integer
        } else if fields.isAt("version") {
          version = fields.integer
        } else if fields.isAt("size") {
          size = fields.integer
        } else if fields.isAt("timestamp") {
          timestamp = fields.integer
        } else if fields.isAt("updatedAt") {
          updatedMs = fields.dateMs
        } else if fields.isAt("digest") {
          digest = fields.integer
        } else if fields.isAt("text") {
          text = fields.text
        }
      }
    }
  }

  /// Calls `body` with the record's data and content: byte for byte what we were given when the document still holds it,
  /// else the value that another program has stored. Bytes are valid during the call.
  static func withData<R>(of found: FoundDocument, _ body: (_ content: Content, BorrowedBytes) -> R) -> R {
    guard let data = found.data else {
      return body(found.noted?.content == BP_CONTENT_BYTES ? .bytes : .json, BorrowedBytes(start: nil, count: 0))
    }
    if let note = found.noted, note.digest == nil || note.digest == valueDigest(data) {
      if note.content == BP_CONTENT_BYTES, let bytes = binary(data) {
        return bytes.withUnsafeBufferPointer { body(.bytes, $0) }
      }
      if let text = note.text ?? standIn(data) { return body(.json, text) }
    }
    if let bytes = binary(data) { return bytes.withUnsafeBufferPointer { body(.bytes, $0) } }
    var text: [UInt8] = []
    BSONToJSON.append(data, to: &text)
    return text.withUnsafeBufferPointer { body(.json, $0) }
  }

  private static func valueDigest(_ data: BSONReader) -> UInt64 {
    let value = BSONBuilder()
    value.append("data", valueAt: data)
    return value.withBytes(digest)
  }

  /// The bytes of the peer's marker, which is told by its flag alone.
  private static func binary(_ data: BSONReader) -> [UInt8]? {
    guard data.type == BSON_TYPE_DOCUMENT, let fields = data.fields else { return nil }
    var isMarked = false
    var text: BorrowedBytes?
    while fields.next() {
      if fields.isAt(Layout.binaryFlag) {
        isMarked = fields.type == BSON_TYPE_BOOL && fields.bool
      } else if fields.isAt("data") {
        text = fields.text
      }
    }
    guard isMarked, let text else { return nil }
    var bytes: [UInt8] = []
    Base64.decodeLeniently(UnsafeRawBufferPointer(text), into: &bytes)
    return bytes
  }

  private static func standIn(_ data: BSONReader) -> BorrowedBytes? {
    guard let fields = data.fields, fields.next(), fields.isAt(Layout.standIn) else { return nil }
    return fields.text ?? fields.binary
  }
}

extension Int64 {
  fileprivate init(saturating number: Double) {
    if number.isNaN {
      self = 0
    } else {
      self = Int64(exactly: number.rounded(.towardZero)) ?? (number < 0 ? .min : .max)
    }
  }
}
