import MessageCrypto
import PluginAPI
import Testing

@testable import RuleBook

/// Each rule, accepted and refused.
@Suite struct RuleTests {
  @Test func allowAndDeny() throws {
    let book = try book(#"{"a://open":"allow","a://shut":{"deny":"Use a://open."},"a://bare":"deny"}"#)
    #expect(book.answer("a://open/x", "1") == .plain)
    #expect(book.answer("a://shut/x", "1") == .refused("Use a://open."))
    #expect(book.answer("a://bare/x", "1") == .refused("This program takes no messages."))
    #expect(book.answer("a://other/x", "1") == .refused("Unknown program: a://other"))
    #expect(book.programs.map(\.key) == ["a://open", "a://shut", "a://bare"])
  }

  @Test func everyOtherProgramIsServedByAStar() throws {
    let book = try book(#"{"a://a":"deny","*":"allow"}"#)
    #expect(book.answer("b://b/x", "1") == .plain)
    #expect(book.answer("a://a/x", "1") != .plain)
    #expect(book.programs.contains { $0.isFallback })
    #expect(book.programs.contains { $0.key == "hash://sha256" && $0.isCanonical && $0.isUnlisted })
  }

  @Test func whatIsNoURIIsRefusedInTheReferencesWords() throws {
    let book = try book(#"{"*":"allow"}"#)
    #expect(book.answer("nothing", "1") == .refused("Invalid URI format"))
    #expect(book.answer("hash:", "1") == .refused("Invalid hash URI format"))
    #expect(book.answer("nothing", envelope("")) == .refused("Invalid envelope URI format"))
    var output = Sent("nothing", "1")
    output.depth = 1
    #expect(book.answer(output) == .refused("Invalid output URI: nothing"))
  }

  @Test func writeOnceIsAConditionOfTheWrite() throws {
    let book = try book(#"{"a://a":"write_once","a://b":[{"write_once":"Taken."},{"write_once":"Never said."}]}"#)
    let standard = "The record exists already, and it is written once."
    #expect(book.answer("a://a/x", "1") == .accepted(unless: standard, isEnvelope: false))
    #expect(book.answer("a://b/x", "1") == .accepted(unless: "Taken.", isEnvelope: false))
    #expect(book.answer("a://a/x", envelope("")) == .accepted(unless: standard, isEnvelope: true))
  }

  @Test func contentAndSize() throws {
    let book = try book(
      #"{"a://json":{"content":"json"},"a://bytes":{"content":"bytes"},"a://small":{"size_bytes_max":3}}"#)
    var bytes = Sent("a://json/x", "{}")
    bytes.isJSON = false
    #expect(book.answer("a://json/x", "{}") == .plain)
    #expect(book.answer(bytes) == .refused("This program takes JSON values only."))
    bytes.uri = "a://bytes/x"
    #expect(book.answer(bytes) == .plain)
    #expect(book.answer("a://bytes/x", "{}") == .refused("This program takes bytes only."))
    #expect(book.answer("a://small/x", "123") == .plain)
    #expect(
      book.answer("a://small/x", "1234")
        == .refused("The value has 4 bytes; 3 is the most that this program takes."))
  }

  @Test func patternOfTheURI() throws {
    let book = try book(#"{"a://a":{"uri_pattern":"^a://a/\\d+$"}}"#)
    #expect(book.answer("a://a/12", "1") == .plain)
    #expect(
      book.answer("a://a/12x", "1")
        == .refused(#"The URI does not match the pattern of its program: ^a://a/\d+$"#))
  }

  @Test func aSlowPatternIsEnded() throws {
    let book = try book(#"{"a://a":{"uri_pattern":"(a+)+$"}}"#, #""limits":{"time_ms_max":50},"#)
    let uri = "a://a/" + String(repeating: "a", count: 2000) + "!"
    let started = ContinuousClock.now
    #expect(
      book.answer(uri, "1") == .refused("Judging the message takes longer than 50 ms (time_ms_max)."))
    #expect(ContinuousClock.now - started < .seconds(30))
  }

  @Test func jsonSchema() throws {
    let book = try book(
      #"{"a://a":{"json_schema":{"type":"object","required":["n"],"properties":{"n":{"minimum":3}}}},"a://b":{"json_schema":"amount"}}"#,
      #""json_schemas":{"amount":{"type":"integer"}},"#)
    #expect(book.answer("a://a/x", #"{"n":3}"#) == .plain)
    guard case .refused(let text) = book.answer("a://a/x", #"{"n":2}"#) else { return #expect(Bool(false)) }
    #expect(text.hasPrefix("The value does not fit the JSON Schema of its program: /n: "), "\(text)")
    #expect(text.hasSuffix("(minimum)"), "\(text)")
    #expect(book.answer("a://b/x", "1") == .plain)
    guard case .refused(let other) = book.answer("a://b/x", #""1""#) else { return #expect(Bool(false)) }
    #expect(other.hasPrefix(#"The value does not fit the JSON Schema "amount": the value: "#), "\(other)")
    var bytes = Sent("a://b/x", "1")
    bytes.isJSON = false
    #expect(book.answer(bytes) == .refused(#"The value is bytes and does not fit the JSON Schema "amount"."#))
  }

  @Test func signedByTheOwnerOfThePath() throws {
    let (alice, mallory) = (try keyPair(1), try keyPair(2))
    let book = try book(#"{"a://accounts":{"signed_by":"owner"}}"#)
    let uri = "a://accounts/\(alice.publicKeyHex)/profile"
    let payload = #"{"name":"Alice"}"#
    let refused = Answer.refused("Signature verification failed")
    #expect(book.answer(uri, signed(payload, by: [alice])) == .plain)
    #expect(book.answer(uri, signed(payload, by: [mallory, alice])) == .plain)
    #expect(book.answer(uri, signed(payload, by: [mallory])) == refused)
    #expect(book.answer(uri, signed(payload, by: [])) == refused)
    #expect(book.answer(uri, payload) == refused)
    #expect(book.answer(uri, "null") == refused)
    #expect(book.answer("a://accounts", signed(payload, by: [alice])) == refused)
    #expect(book.answer("a://accounts/\(alice.publicKeyHex.uppercased())/x", signed(payload, by: [alice])) == refused)
    let forged = signed(payload, by: [alice]).replacing("Alice", with: "Carol")
    #expect(book.answer(uri, forged) == refused)
  }

  @Test func signedByNamedKeys() throws {
    let keys = try (1...3).map { try keyPair($0) }
    let (alice, bob, carol) = (keys[0], keys[1], keys[2])
    let book = try book(
      #"{"a://one":{"signed_by":"alice"},"a://any":{"signed_by":["alice","bob"]},"a://all":{"signed_by":{"all":["alice","bob"]}},"a://hex":{"signed_by":{"any":["\#(carol.publicKeyHex)"]}}}"#,
      #""keys":{"alice":"\#(alice.publicKeyHex)","bob":"\#(bob.publicKeyHex)"},"#)
    func isAccepted(_ program: String, _ keys: [Ed25519.KeyPair]) -> Bool {
      book.answer("\(program)/x", signed("[1]", by: keys)) == .plain
    }
    #expect(isAccepted("a://one", [alice]) && !isAccepted("a://one", [bob]))
    #expect(isAccepted("a://any", [bob]) && isAccepted("a://any", [carol, alice]) && !isAccepted("a://any", [carol]))
    #expect(
      isAccepted("a://all", [bob, alice]) && !isAccepted("a://all", [bob]) && !isAccepted("a://all", [bob, bob]))
    #expect(isAccepted("a://hex", [carol]) && !isAccepted("a://hex", [alice]))
  }

  @Test func aFeeIsAnOutputThatIsThere() throws {
    let book = try book(
      #"{"a://paid":{"requires_output":{"uri_pattern":"^fees://north/","number_min":10}},"a://form":{"requires_output":{"uri_pattern":"^fees://","json_schema":{"required":["to"]}}}}"#
    )
    func answer(_ outputs: String) -> Answer { book.answer("a://paid/x", envelope(outputs)) }
    #expect(answer(#"["fees://north/1",10]"#) == .accepted(unless: nil, isEnvelope: true))
    #expect(
      answer(#"["a://other/x",1],["fees://south/1",10],["FEES://north/1?q",12.5]"#)
        == .accepted(unless: nil, isEnvelope: true))
    let wanted = "an output to a URI that matches ^fees://north/"
    #expect(answer(#"["fees://south/1",10]"#) == .refused("The envelope has not \(wanted)."))
    #expect(answer("") == .refused("The envelope has not \(wanted)."))
    let tooSmall = Answer.refused("The envelope has \(wanted), but its value is not a number of at least 10.")
    #expect(answer(#"["fees://north/1",9.99]"#) == tooSmall)
    #expect(answer(#"["fees://north/1","10"]"#) == tooSmall)
    #expect(answer(#"["fees://north/1",9],["fees://north/2",10]"#) == .accepted(unless: nil, isEnvelope: true))
    #expect(
      book.answer("a://paid/x", "10")
        == .refused("The message is no envelope; this program asks for one with \(wanted)."))
    #expect(book.answer("a://form/x", envelope(#"["fees://x",{"to":1}]"#)) == .accepted(unless: nil, isEnvelope: true))
    guard case .refused(let text) = book.answer("a://form/x", envelope(#"["fees://x",{}]"#)) else {
      return #expect(Bool(false))
    }
    #expect(text.hasSuffix("(required)"), "\(text)")
  }

  @Test func anyAndAll() throws {
    let book = try book(
      #"{"a://a":{"any":[{"size_bytes_max":1},{"all":["write_once",{"size_bytes_max":4}]}]},"a://b":[{"size_bytes_max":9},{"any":["deny",{"size_bytes_max":2}],"otherwise":"Neither."}]}"#
    )
    // Without a condition where that is possible.
    #expect(book.answer("a://a/x", "1") == .plain)
    #expect(
      book.answer("a://a/x", "1234")
        == .accepted(unless: "The record exists already, and it is written once.", isEnvelope: false))
    guard case .refused(let text) = book.answer("a://a/x", "12345") else { return #expect(Bool(false)) }
    #expect(text.hasPrefix("None of these holds: The value has 5 bytes; 1 is"), "\(text)")
    #expect(book.answer("a://b/x", "12") == .plain)
    #expect(book.answer("a://b/x", "123") == .refused("Neither."))
  }

  @Test func deletes() throws {
    let book = try book(
      #"{"a://a":"deny","a://b":{"rules":"allow","delete":"none"},"a://c":{"rules":"allow","delete":"open"}}"#)
    #expect(book.judgesDeletes)
    func answer(_ uri: String) -> Answer {
      var sent = Sent(uri, "")
      sent.isDelete = true
      return book.answer(sent)
    }
    #expect(answer("a://a/x") == .plain)
    #expect(answer("a://b/x") == .refused("Records of this program are not deleted."))
    #expect(answer("a://c/x") == .plain)
    #expect(try !RulesTests.book(#"{"a://a":"allow"}"#).judgesDeletes)
  }

  @Test func digestsHoldWhateverTheFileSays() throws {
    let book = try book(#"{"hash://sha256":"allow"}"#)
    let digest = "d3626ac30a87e6f7a6428233b3c68299976865fa5508e4267c5415c76af7a772"
    #expect(book.answer("hash://sha256/\(digest)", #"{"b": 1, "a": 2}"#) == .plain)
    #expect(book.answer("hash://sha256/\(digest)", #"{"b": 1, "a": 3}"#) == .refused("Content hash mismatch"))
    #expect(book.answer("hash://sha256/\(digest)", envelope("")) == .refused("Content hash mismatch"))
    #expect(book.programs.contains { $0.key == "hash://sha256" && $0.isCanonical })
  }

  @Test func everyStepIsExplained() throws {
    let book = try book(#"{"a://a":[{"content":"json"},{"any":["deny",{"size_bytes_max":2}]},"write_once"]}"#)
    var steps: [RuleStep] = []
    let answer = book.answer(Sent("a://a/x", "123")) { steps.append($0) }
    #expect(answer != .plain)
    #expect(steps.map(\.word) == ["content", "deny", "size_bytes_max", "any", "write_once"])
    #expect(steps.map(\.holds) == [true, false, false, false, true])
    #expect(steps.map(\.depth) == [0, 1, 1, 0, 0])
    #expect(steps[2].pointer == "/programs/a:~1~1a/1/any/1/size_bytes_max")
  }
}
