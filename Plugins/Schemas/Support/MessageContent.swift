import PluginAPI

/// The value of a message or of an output: bytes, or one JSON text. Borrows.
package struct MessageContent {
  package let bytes: BorrowedBytes
  package let isJSON: Bool

  package init(_ message: bp_message) {
    self.init(message.data.bytes, isJSON: message.content == BP_CONTENT_JSON)
  }

  package init(_ bytes: BorrowedBytes, isJSON: Bool) {
    self.bytes = bytes
    self.isJSON = isJSON
  }
}
