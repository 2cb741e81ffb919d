import PluginAPI
import SchemaSupport

extension RuleBook {
  /// Judges a known message by known rules.
  package static func selfTest() throws(Failure) {
    let rules =
      #"{"version":1,"programs":{"t://t":[{"uri_pattern":"^t://t/\\d$"},{"json_schema":{"required":["a"]}}]}}"#
    let program = Array("t://t".utf8)
    let uri = Array("t://t/1".utf8)
    func isAccepted(_ book: RuleBook, _ json: String) -> Bool {
      let json = Array(json.utf8)
      return program.withUnsafeBufferPointer { program in
        uri.withUnsafeBufferPointer { uri in
          json.withUnsafeBufferPointer { json in
            let message = RuleMessage(
              isDelete: false, uri: uri, uriReceived: uri, program: program,
              content: MessageContent(json, isJSON: true), depth: 0)
            if case .accepted = book.judge(message) { return true } else { return false }
          }
        }
      }
    }
    let book: RuleBook
    do throws(ConfigurationErrors) {
      book = try RuleBook(try RuleValue.parse(Array(rules.utf8)))
    } catch {
      throw Failure.internal("Known rules were refused: \(error)")
    }
    guard isAccepted(book, #"{"a":1}"#), !isAccepted(book, #"{"b":1}"#) else {
      throw Failure.internal("A known message was judged wrongly: the JSON Schema engine or ICU is not usable.")
    }
  }
}
