import PluginAPI
import Testing

@Suite struct ConfigurationProblemTests {
  struct Server: Decodable {
    var port: UInt16
    var host: String?
    var timeout_ms: Int?
  }

  struct Root: Decodable {
    var server: Server?
    var servers: [Server]?
    var verbose: Bool?
    var ratio: Double?
    var level: ConfigurationDecodingTests.Level?
    var rank: ConfigurationDecodingTests.Rank?
    var password: String?
    var pin_token: Int?
    var url: Int?
    var tags: [String: Int]?
  }

  @Test(arguments: [
    (
      #"{"server": {"port": "abc"}}"#,
      #"/server/port: expected a whole number from 0 to 65535, found the text "abc"."#
    ),
    (
      #"{"server": {"port": "80"}}"#,
      #"/server/port: expected a whole number from 0 to 65535, found the text "80"; remove the quotes."#
    ),
    (#"{"server": {"port": 65536}}"#, "/server/port: expected a whole number from 0 to 65535, found the number 65536."),
    (#"{"server": {"port": -1}}"#, "/server/port: expected a whole number from 0 to 65535, found the number -1."),
    (
      #"{"server": {"port": 1.0}}"#,
      "/server/port: expected a whole number from 0 to 65535, found the number 1.0; "
        + "write it without a decimal point or exponent."
    ),
    (#"{"server": {"port": null}}"#, "/server/port: expected a whole number from 0 to 65535, found null."),
    (#"{"server": {"port": []}}"#, "/server/port: expected a whole number from 0 to 65535, found a list."),
    (#"{"server": {}}"#, #"/server/port: the required key "port" is missing; add it."#),
    (
      #"{"server": {"prot": 1}}"#,
      #"/server/port: the required key "port" is missing; is "prot" a misspelling of it?"#
    ),
    (#"{"server": 5}"#, "/server: expected an object, found the number 5."),
    (#"{"servers": {}}"#, "/servers: expected a list, found an object."),
    (
      #"{"servers": [{"port": 1}, {"port": true}]}"#,
      "/servers/1/port: expected a whole number from 0 to 65535, found true."
    ),
    (#"{"verbose": "true"}"#, #"/verbose: expected true or false, found the text "true"; remove the quotes."#),
    (#"{"verbose": 1}"#, "/verbose: expected true or false, found the number 1."),
    (
      #"{"server": {"port": 1, "host": 7}}"#,
      "/server/host: expected a text, found the number 7; put it in double quotes."
    ),
    (#"{"ratio": "x"}"#, #"/ratio: expected a number, found the text "x"."#),
    (
      #"{"level": "lowd"}"#,
      #"/level: the text "lowd" is not one of the values allowed here: "quiet", "loud"."#
    ),
    (#"{"rank": 2}"#, "/rank: the number 2 is not one of the values allowed here."),
    (#"{"tags": {"a/b~c": "x"}}"#, #"/tags/a~1b~0c: expected a whole number from "#),
    ("[1]", ": expected an object, found a list."),
  ])
  func theFirstValueThatDoesNotFit(json: String, expected: String) {
    let found = lines(Root.self, json)
    #expect(found.count == 1)
    #expect(found.first?.hasPrefix(expected) == true, "\(found)")
  }

  @Test func aRealNumberOutOfRange() {
    #expect(lines(Double.self, "1e999").first?.contains("found the number 1e999") == true)
    #expect(lines(Float.self, "1e39").count == 1)
  }

  @Test func unknownKeysAreAllCollectedInTheOrderOfTheDocument() {
    let json = #"""
      {"verbos": true, "server": {"port": 1, "timeoutMs": 5, "zzz": {"port": 1}}, "servers": [{"port": 1, "Prot": 2}]}
      """#
    #expect(
      lines(Root.self, json) == [
        #"/verbos: unknown key "verbos"; did you mean "verbose"?"#,
        #"/server/timeoutMs: unknown key "timeoutMs"; did you mean "timeout_ms"?"#,
        #"/server/zzz: unknown key "zzz"; the keys known here are "port", "host", "timeout_ms"."#,
        #"/servers/0/Prot: unknown key "Prot"; did you mean "port"?"#,
      ])
  }

  @Test func theErrorComesFirstThenTheUnknownKeysOfWhatWasComplete() {
    let json = #"{"servers": [{"port": 1, "hots": "a"}, {"port": "x", "unseen": 1}], "unseen": 1}"#
    #expect(
      lines(Root.self, json) == [
        #"/servers/1/port: expected a whole number from 0 to 65535, found the text "x"."#,
        #"/servers/0/hots: unknown key "hots"; did you mean "host"?"#,
      ])
  }

  struct Empty: Decodable {}

  @Test func aTypeWithoutPropertiesKnowsNoKeys() throws {
    _ = try decode(Empty.self, "{}")
    #expect(lines(Empty.self, #"{"a": 1}"#) == [#"/a: unknown key "a"; remove it, as no keys are known here."#])
  }

  @Test func problemsAreBoundedAndSaySo() {
    let members = (0..<1_000).map { #""k\#($0)": 0"# }.joined(separator: ",")
    let found = problems(Empty.self, "{\(members)}".utf8)
    #expect(found.count == ConfigurationDecoder.problemsMax)
    #expect(found.last?.message == "969 more problems are not shown; correct these first and try again.")
    let again = problems(Empty.self, "{\((0..<1_000).map { _ in #""k": 0"# }.joined(separator: ","))}".utf8)
    #expect(again.count == ConfigurationDecoder.problemsMax)
    #expect(again.last?.message.hasPrefix("968 more problems") == true)
  }

  @Test func secretsAreNotRepeated() {
    #expect(
      lines(Root.self, #"{"password": 90210}"#) == [
        "/password: expected a text, found a number (not shown: its key looks secret); put it in double quotes."
      ])
    #expect(
      lines(Root.self, #"{"pin_token": "hunter2"}"#).first?.hasSuffix(
        "found a text (not shown: its key looks secret).") == true)
    #expect(
      lines(Root.self, #"{"url": "postgres://me:hun/ter2@host/db"}"#).first?.hasSuffix(
        #"found the text "postgres://***@host/db"."#) == true)
    #expect(
      lines(Root.self, #"{"url": "host=a password=hunter2"}"#).first?.hasSuffix(
        "found a text (not shown: it looks as if it carried a secret).") == true)
    #expect(
      lines([String: Int].self, #"{"https://me:hunter2@host": true}"#).first?.hasPrefix("/https:~1~1***@host: ") == true
    )
    #expect(lines([String: [Int]].self, #"{"Api-Keys": ["hunter2"]}"#).first?.contains("hunter2") == false)
    // A syntax error shows the offending character, but not of a secret.
    #expect(lines(Root.self, #"{"password": hunter2}"#).first?.contains("\"h\"") == false)
    #expect(lines(Root.self, #"{"url": hunter2}"#).first?.contains("\"h\"") == true)
  }

  @Test func whatIsShownIsShortAndOnOneLine() {
    let long = String(repeating: "x", count: 10_000)
    #expect(lines(Int.self, "\"\(long)\"").first?.utf8.count ?? 0 < 300)
    let found = lines(Int.self, #""a\n\u001b[2J\u202e\"b""#)
    #expect(found.first?.hasSuffix(#"found the text "a\u{a}\u{1b}[2J\u{202e}\"b"."#) == true, "\(found)")
  }
}

@Suite struct ConfigurationAuthorErrorTests {
  struct Refusal: Error, CustomStringConvertible { var description: String }

  enum Mode: String, Decodable { case problem, pointed, several, plain, corrupted, pathless, secret, caught }

  struct Checked: Decodable {
    var even: Int?
    private enum Keys: String, CodingKey { case mode, even, password, limits }

    init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: Keys.self)
      let password = try container.decodeIfPresent(String.self, forKey: .password) ?? ""
      switch try container.decode(Mode.self, forKey: .mode) {
      case .problem: throw ConfigurationProblem(message: "nothing is right; change it.")
      case .pointed: throw ConfigurationProblem(pointer: "/limits/0", message: "must be even; add one.")
      case .several:
        throw ConfigurationErrors(problems: [
          ConfigurationProblem(pointer: "/even", message: "one."), ConfigurationProblem(message: "two."),
        ])
      case .plain: throw Refusal(description: "the moon is full; wait.")
      case .corrupted:
        throw DecodingError.dataCorruptedError(forKey: Keys.even, in: container, debugDescription: "is odd; add one.")
      case .pathless:
        throw DecodingError.dataCorrupted(.init(codingPath: [], debugDescription: "is nowhere; find it."))
      case .secret: throw ConfigurationProblem(message: "\(password) is too short; use twelve characters.")
      case .caught:
        do {
          _ = try container.decode(Checked.self, forKey: .limits)
        } catch is ConfigurationProblem {
          even = try container.decodeIfPresent(Int.self, forKey: .even)
          throw Refusal(description: "the limits are wrong.")
        }
      }
    }
  }

  struct Holder: Decodable { var list: [Checked] }

  @Test(arguments: [
    (#""mode": "problem""#, ["/list/0: nothing is right; change it."]),
    (#""mode": "pointed""#, ["/list/0/limits/0: must be even; add one."]),
    (#""mode": "several""#, ["/list/0/even: one.", "/list/0: two."]),
    (#""mode": "plain""#, ["/list/0: the moon is full; wait."]),
    (#""mode": "corrupted", "even": 3"#, ["/list/0/even: is odd; add one."]),
    (#""mode": "pathless""#, ["/list/0: is nowhere; find it."]),
    (
      #""mode": "secret", "password": "hunter2""#,
      ["/list/0: the value is not accepted; the reason is withheld because it repeats a value that looks secret."]
    ),
    (#""mode": "caught", "limits": {"mode": "problem"}"#, ["/list/0: the limits are wrong."]),
  ])
  func errorsOfTheAuthorGetTheirPlace(members: String, expected: [String]) {
    #expect(lines(Holder.self, #"{"list": [{\#(members)}]}"#) == expected)
  }
}
