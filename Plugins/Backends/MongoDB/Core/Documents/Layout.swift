/// The names and limits of the documents, documented in docs/mongodb.md.
enum Layout {
  /// What we note beside the peer's fields; `backplane.layout`.
  static let version: Int32 = 1
  /// A MongoDB document has at most so many bytes.
  static let documentBytesMax = 16 << 20
  /// What a document has beside our fields: `_id`, `createdAt`, the URI's field and the frame.
  static let frameBytes = 256
  /// A scan's cursor is a URI, and backend.h allows a cursor 4 KiB.
  static let uriBytesMax = 4_096
  /// The one field of what stands in `data` for JSON that has no faithful BSON form.
  static let standIn: StaticString = "__backplane_json__"
  static let binaryFlag: StaticString = "__b3nd_binary__"
  /// The name of our index, which is unique, on `uri`.
  static let indexName = "backplane_uri"
}
