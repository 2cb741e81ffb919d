import JSONText

/// Why a message is not accepted, in the words that go to the client as they are.
package struct Refusal: Error {
  package let text: String

  package init(_ text: String) { self.text = text }

  /// The value itself cannot be judged, as a validator that throws says it (receive, reference section 4).
  package init(_ problem: JSONError) { text = "Validation error: \(problem)" }
}
