import JSONText
import MessageCrypto

/// A message with several records, printed as the reference prints it, and the digest that is its name.
struct Envelope {
  let text: [UInt8]
  /// Of the canonical text of all of it, `auth` included; 64 digits.
  let digestHex: String

  /// - Parameter outputs: `URI=JSON` or `URI=@FILE` each.
  init(inputs: [String], outputs: [String], signers: [Ed25519.KeyPair]) throws {
    var payload = Array(#"{"inputs":["#.utf8)
    for (index, input) in inputs.enumerated() {
      if index > 0 { payload.append(UInt8(ascii: ",")) }
      JSONWriter.appendString(input, to: &payload)
    }
    payload += Array(#"],"outputs":["#.utf8)
    for (index, output) in outputs.enumerated() {
      let (uri, value) = try Self.split(output)
      if index > 0 { payload.append(UInt8(ascii: ",")) }
      payload.append(UInt8(ascii: "["))
      JSONWriter.appendString(uri, to: &payload)
      payload += [UInt8(ascii: ",")] + value + [UInt8(ascii: "]")]
    }
    payload += Array("]}".utf8)
    let parts = MessageInput(bytes: payload, place: "--output")
    do {
      var text: [UInt8] = []
      try parts.withValue { value in
        if signers.isEmpty {
          text = try Array(#"{"payload":"#.utf8) + CanonicalText.signing(value) + [UInt8(ascii: "}")]
        } else {
          try AuthenticatedMessage.append(payload: value, signers: signers, to: &text)
        }
      }
      var canonical: [UInt8] = []
      try text.withUnsafeBytes { try CanonicalText.append($0, order: .canonical, to: &canonical) }
      self.text = text
      digestHex = Hexadecimal.text(canonical.withUnsafeBytes { SHA256.digest(of: $0) })
    } catch let error as JSONError {
      throw CommandFailure(.usage, "the envelope cannot be made. \(error)")
    } catch let error as AuthenticationError {
      throw CommandFailure(.usage, "the envelope cannot be signed. \(error)")
    }
  }

  /// A URI may have `=` in it, so the JSON begins behind the first one that JSON stands behind.
  private static func split(_ output: String) throws -> (uri: String, value: [UInt8]) {
    var separator = output.firstIndex(of: "=")
    while let place = separator {
      let rest = output[output.index(after: place)...]
      if rest.hasPrefix("@") {
        let value = try MessageInput(String(rest.dropFirst()))
        guard RecordBody.isJSON(value.bytes) else {
          throw CommandFailure(.usage, "the record in \(value.place) is not JSON.")
        }
        return (String(output[..<place]), value.bytes)
      }
      if RecordBody.isJSON(Array(rest.utf8)) { return (String(output[..<place]), Array(rest.utf8)) }
      separator = rest.firstIndex(of: "=")
    }
    throw CommandFailure(
      .usage, "--output \(Output.printable(output)) is not URI=JSON. Quote text as JSON: 'mutable://open/x=\"hello\"'.")
  }
}
