import JSONText
import SchemaSupport
import URIText

/// The rule of links: the value is the text of a URI, as the URL parser reads it. Reference: section 6.
enum LinkRule {
  static func check(_ content: MessageContent) throws(Refusal) {
    guard content.isJSON else { throw notAString }
    switch JSONScanner().scan(content.bytes) {
    case .success(let value): try check(value)
    case .failure(let problem): throw Refusal(problem)
    }
  }

  static func check(_ value: JSONSlice) throws(Refusal) {
    guard value.kind == .string else { throw notAString }
    var scratch: [UInt8] = []
    let isURI = value.withText(scratch: &scratch) { text in
      text.withMemoryRebound(to: UInt8.self) { text in
        let room = URIText.scratchBytes(forInputBytes: text.count)
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: room) { room in
          switch URIText.normalise(text, into: room) {
          case .unchanged, .written: true
          case .invalid, .tooLong: false
          }
        }
      }
    }
    guard isURI else { throw Refusal("Link value must be a valid URI") }
  }

  private static var notAString: Refusal { Refusal("Link value must be a string URI") }
}
