/// A value that carries other records: an object with an object `payload` whose `inputs` is an array and whose
/// `outputs` is an array of pairs that start with a string. The rule is the b3nd SDK's isMessageData: input elements
/// and `auth` are not looked at, an empty output URI passes, and of duplicate members the last counts.
public struct MessageEnvelope {
  static let payloadName: StaticString = "payload"

  public let payload: JSONSlice
  public let inputs: JSONSlice
  /// The array of pairs, as written.
  public let outputsArray: JSONSlice
  public let outputCount: Int

  /// The envelope that `value` is, or nil for a plain value. Walks `value` without a copy; borrows from it.
  public static func find(in value: JSONSlice) -> MessageEnvelope? {
    guard value.kind == .object, let payload = value.member(payloadName) else { return nil }
    return find(payload: payload)
  }

  /// The envelope of a value whose `payload` has been found, or nil.
  public static func find(payload: JSONSlice) -> MessageEnvelope? {
    guard payload.kind == .object else { return nil }
    var inputs: JSONSlice?
    var outputs: JSONSlice?
    for (key, value) in payload.members {
      if key.isText("inputs") { inputs = value } else if key.isText("outputs") { outputs = value }
    }
    guard let inputs, let outputs, inputs.kind == .array, outputs.kind == .array else { return nil }
    var count = 0
    for output in outputs.elements {
      guard EnvelopeOutput(output) != nil else { return nil }
      count += 1
    }
    return MessageEnvelope(payload: payload, inputs: inputs, outputsArray: outputs, outputCount: count)
  }

  /// The outputs in order. Each use walks the array anew.
  public var outputs: some Sequence<EnvelopeOutput> {
    outputsArray.elements.lazy.compactMap { EnvelopeOutput($0) }
  }
}

/// One output `[uri, value]`. Borrows from the envelope's text.
public struct EnvelopeOutput {
  /// A string, possibly empty.
  public let uri: JSONSlice
  public let value: JSONSlice

  /// Nil unless `pair` is an array of exactly two elements, the first a string.
  init?(_ pair: JSONSlice) {
    var elements = pair.elements
    guard let uri = elements.next(), uri.kind == .string, let value = elements.next(), elements.next() == nil else {
      return nil
    }
    self.uri = uri
    self.value = value
  }
}
