import Testing

@testable import JSONText

/// What a receive scan found, owned.
private func scanned(_ text: String) -> Result<[String], ReceiveRejection> {
  Array(text.utf8).withUnsafeBytes { body in
    JSONScanner().scanMessage(body).map { [string($0.uri), string($0.data)] }
  }
}

@Suite struct ReceiveBodies {
  @Test(arguments: [
    ("{\"tx\":[\"u\",1]}", "\"u\"", "1"),
    (" { \"x\" : { } , \"tx\" : [ \"u\" , { \"a\" : [ 1 , 2 ] } ] , \"y\" : 1 } ", "\"u\"", "{ \"a\" : [ 1 , 2 ] }"),
    ("{\"tx\":[\"u\",null,\"more\",[{}]]}", "\"u\"", "null"),
    ("{\"tx\":[\"u\",\"\"]}", "\"u\"", "\"\""),
    ("{\"tx\":5,\"tx\":[\"u\",false]}", "\"u\"", "false"),
    ("{\"tx\":[\"a\",1],\"tx\":[\"b\",2]}", "\"b\"", "2"),
    ("{\"\\u0074x\":[\"u\",-0.0e1]}", "\"u\"", "-0.0e1"),
    ("\u{FEFF}{\"tx\":[\"é\\ud800\",\"\\udc00\"]}", "\"é\\ud800\"", "\"\\udc00\""),
  ])
  func messages(_ text: String, _ uri: String, _ data: String) throws {
    #expect(try scanned(text).get() == [uri, data])
  }

  @Test(arguments: [
    "", "null", "5", "\"tx\"", "[]", "[\"u\",1]", "{}", "{\"tx\":null}", "{\"tx\":\"ab\"}", "{\"tx\":{}}",
    "{\"tx\":[]}", "{\"tx\":[\"u\"]}", "{\"tx\":[\"u\",1],\"tx\":0}", "{\"tx\":[\"u\",1],\"tx\":[]}",
    "{\"TX\":[\"u\",1]}",
    "{\"txx\":[\"u\",1]}", "{\"a\":{\"tx\":[\"u\",1]}}", "\u{FEFF}",
  ])
  func notMessages(_ text: String) {
    guard case .failure(let rejection) = scanned(text) else {
      Issue.record("a message was found in \(text)")
      return
    }
    #expect(rejection.text == "Invalid message format: expected { tx: [uri, data] }")
  }

  @Test(arguments: ["\"\"", "5", "0", "null", "false", "true", "[]", "{}", "[\"u\"]"])
  func uriThatIsNone(_ uri: String) {
    for data in ["1", "{\"payload\":1}"] {
      guard case .failure(.uriRequired) = scanned("{\"tx\":[\(uri),\(data)]}") else {
        Issue.record("\(uri) passed as a URI")
        return
      }
    }
  }

  /// The whole body is validated, wherever the message stands in it.
  @Test func malformedAnywhere() {
    let good = "{\"a\":[1],\"tx\":[\"u\",{\"k\":\"v\"},2],\"b\":{\"c\":null}}"
    for length in 1..<good.utf8.count {
      guard case .failure(.malformed) = scanned(String(good.prefix(length))) else {
        Issue.record("the first \(length) bytes passed")
        return
      }
    }
    guard case .failure(.malformed(let error)) = scanned(good + "}") else {
      Issue.record("trailing bytes passed")
      return
    }
    #expect(error == JSONError(kind: .trailingBytes, offset: good.utf8.count))
    #expect(try! scanned(good).get() == ["\"u\"", "{\"k\":\"v\"}"])
  }

  @Test func invalidUTF8IsNotMalformed() {
    let body = Array("{\"tx\":[\"u\",\"".utf8) + [0xFF] + Array("\"]}".utf8)
    body.withUnsafeBytes {
      guard case .failure(.invalidUTF8(let error)) = JSONScanner().scanMessage($0) else {
        Issue.record("invalid UTF-8 passed")
        return
      }
      #expect(error.offset == 12)
    }
  }

  @Test func hintsAreNeverWrong() throws {
    let marker = "{\"__b3nd_binary__\":true,\"encoding\":\"base64\",\"data\":\"AP9oaQ\"}"
    let escaped = "{\"\\u005f_b3nd_binary__\":true,\"encoding\":\"base64\",\"data\":\"AP9oaQ\"}"
    let envelope = "{\"payloa\\u0064\":{\"inputs\":[],\"outputs\":[[\"u\",1]]}}"
    for (data, binary, mayBeEnvelope) in [
      (marker, true, false), (escaped, true, false), (envelope, false, true), ("{\"a\":\(marker)}", false, false),
      ("[\(marker)]", false, false), ("\"payload\"", false, false),
    ] {
      try Array("{\"tx\":[\"u\",\(data)]}".utf8).withUnsafeBytes {
        let message = try JSONScanner().scanMessage($0).get()
        #expect(message.dataMayBeBinary == binary)
        #expect(message.dataMayBeEnvelope == mayBeEnvelope)
        #expect((BinaryMarker.find(in: message.data) != nil) == binary)
        #expect((MessageEnvelope.find(in: message.data) != nil) == mayBeEnvelope)
      }
    }
  }

  @Test func slicesPointIntoTheBody() throws {
    try Array("{\"tx\":[\"uri\",{\"a\":1}]}".utf8).withUnsafeBytes { body in
      let message = try JSONScanner().scanMessage(body).get()
      #expect(message.uri.range(in: body) == 7..<12)
      #expect(message.data.range(in: body) == 13..<20)
    }
  }
}

@Suite struct URILists {
  private func uris(_ text: String, countMax: Int = 3) -> Result<[String], URIListRejection> {
    Array(text.utf8).withUnsafeBytes { body in
      JSONScanner().scanURIs(body, countMax: countMax).map { $0.map { $0.text ?? "?" } }
    }
  }

  @Test func lists() {
    #expect(uris("{\"uris\":[]}") == .success([]))
    #expect(uris("{\"x\":1,\"uris\":[\"a\",\"b\\n\",\"\"]}") == .success(["a", "b\n", ""]))
    #expect(uris("{\"uris\":[1],\"uris\":[\"a\"]}") == .success(["a"]))
    #expect(uris("{\"uris\":[\"a\"],\"uris\":1}") == .failure(.notAList))
    #expect(uris("") == .failure(.notAList))
    #expect(uris("[\"a\"]") == .failure(.notAList))
    #expect(uris("{}") == .failure(.notAList))
    #expect(uris("{\"uris\":[\"a\",null]}") == .failure(.notAString(index: 1)))
    #expect(uris("{\"uris\":[\"a\",\"b\",\"c\",\"d\"]}") == .failure(.tooMany(countMax: 3)))
    #expect(
      uris("{\"uris\":[\"a\",]}") == .failure(.malformed(JSONError(kind: .valueExpected, offset: 13))))
    #expect(uris("{\"uris\":[\"a\"]") == .failure(.malformed(JSONError(kind: .unexpectedEnd, offset: 13))))
  }
}

@Suite struct Walking {
  @Test func membersAndElements() throws {
    try withValue("{ \"a\" : 1 , \"b\" : [ true , \"x\" , { } ] , \"a\" : { \"c\" : null } }") { value in
      #expect(value.members.map { string($0.key) } == ["\"a\"", "\"b\"", "\"a\""])
      #expect(value.members.map { string($0.value) } == ["1", "[ true , \"x\" , { } ]", "{ \"c\" : null }"])
      #expect(value.member("a").map(string) == "{ \"c\" : null }")
      #expect(value.member("b")?.elements.map(string) == ["true", "\"x\"", "{ }"])
      #expect(value.member("b")?.elements.map(\.kind) == [.true, .string, .object])
      #expect(value.member("c") == nil)
      #expect(Array(value.elements.map(string)).isEmpty)
      #expect(value.member("b")?.members.map { string($0.key) } == [])
    }
    try withValue("[]") { #expect($0.elements.map(string).isEmpty) }
    try withValue("{}") { #expect($0.members.map { string($0.key) }.isEmpty) }
  }

  @Test func envelopeOutputs() throws {
    let text = "{\"auth\":[],\"payload\":{\"inputs\":[1],\"outputs\":[[\"u\",{\"a\":1}],[\"\",null]]}}"
    try withValue(text) { value in
      let envelope = try #require(MessageEnvelope.find(in: value))
      #expect(envelope.outputCount == 2)
      #expect(envelope.outputs.map { string($0.uri) } == ["\"u\"", "\"\""])
      #expect(envelope.outputs.map { string($0.value) } == ["{\"a\":1}", "null"])
      #expect(string(envelope.inputs) == "[1]")
    }
    // Of duplicates the last counts, also against the envelope.
    try withValue("{\"payload\":{\"inputs\":[],\"outputs\":[],\"outputs\":1}}") {
      #expect(MessageEnvelope.find(in: $0) == nil)
    }
    try withValue("{\"payload\":1,\"payload\":{\"inputs\":[],\"outputs\":[]}}") {
      #expect(MessageEnvelope.find(in: $0) != nil)
    }
  }
}
