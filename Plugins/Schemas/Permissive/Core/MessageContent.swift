import PluginAPI

/// The value of a message or of an output: bytes, or one JSON text. Borrows.
struct MessageContent {
  let bytes: BorrowedBytes
  let isJSON: Bool

  init(_ message: bp_message) {
    self.init(message.data.bytes, isJSON: message.content == BP_CONTENT_JSON)
  }

  init(_ bytes: BorrowedBytes, isJSON: Bool) {
    self.bytes = bytes
    self.isJSON = isJSON
  }
}
