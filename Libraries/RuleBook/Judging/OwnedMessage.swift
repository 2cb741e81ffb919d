import PluginAPI
import SchemaSupport
import URIText

extension RuleMessage {
  /// Calls `body` with a message as the kernel would hand it over: with the normal form of `uri`, or none. Valid during
  /// the call.
  package static func with<R>(
    uri: String, data: [UInt8], isJSON: Bool, isDelete: Bool = false, depth: Int = 0, _ body: (RuleMessage) -> R
  ) -> R {
    let normalised = URIText.normalise(uri)
    let received = Array(uri.utf8)
    return Array((normalised?.text ?? "").utf8).withUnsafeBufferPointer { text in
      received.withUnsafeBufferPointer { received in
        data.withUnsafeBufferPointer { data in
          body(
            RuleMessage(
              isDelete: isDelete, uri: text, uriReceived: received,
              program: BorrowedBytes(rebasing: text[..<(normalised?.program.utf8.count ?? 0)]),
              content: MessageContent(data, isJSON: isJSON), depth: depth))
        }
      }
    }
  }
}
