import Testing

@testable import Kernel

@Suite struct ManifestTests {
  private func parse(_ text: String) throws(Refusal) -> Manifest {
    try Manifest.parse(Array(text.utf8), file: "/plugins/x.so")
  }

  private func why(_ text: String) -> String {
    guard let error = refusal({ () throws(Refusal) in try parse(text) }) else { return "taken" }
    #expect(error.code == "plugin.manifest-invalid" && error.file == "/plugins/x.so" && error.phase == .verified)
    #expect(error.sentence.hasPrefix("/plugins/x.so: the manifest") && error.sentence.hasSuffix("."))
    return error.sentence
  }

  /// A sound manifest with one member replaced or added (`nil` takes it out).
  private func with(_ key: String, _ value: String?) -> String {
    var members = [
      "id": "\"org.example.x\"", "version": "\"1.0.0\"", "kinds": "[\"backend\"]",
      "abi": "{\"major\": 0, \"minor\": 1}",
    ]
    members[key] = value
    return "{" + members.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ") + "}"
  }

  @Test func readsEveryKey() throws {
    let schema = "{ \"type\" : \"object\", \"properties\": {\"path\": {}} }"
    let manifest = try parse(
      """
      {"id": "org.example.full-one", "version": "1.2.3-rc.1+build.5", "kinds": ["backend", "service"],
       "schemes": ["sqlite", "svn+ssh"], "abi": {"major": 0, "minor": 7}, "state_version": 3, "volatile": true,
       "handover": "stop-then-start", "isolation": "process", "runtime": "zig",
       "configuration_schema": \(schema), "secrets": ["password"],
       "listeners": [{"name": "http", "config_key": "port", "default": 9942},
                     {"name": "admin", "config_key": "admin", "default": "127.0.0.1:1"},
                     {"name": "none", "config_key": "other"}],
       "metrics": ["rows_total"], "licence": "MIT", "source": "https://example.org"}
      """)
    #expect(manifest.id == "org.example.full-one")
    #expect(manifest.version == "1.2.3-rc.1+build.5")
    #expect(manifest.kinds == ["backend", "service"])
    #expect(manifest.schemes == ["sqlite", "svn+ssh"])
    #expect(manifest.abi == .init(major: 0, minor: 7))
    #expect(manifest.stateVersion == 3)
    #expect(manifest.isVolatile)
    #expect(manifest.handover == .stopThenStart)
    #expect(manifest.isolation == .process)
    #expect(manifest.runtime == "zig")
    #expect(manifest.configurationSchema == schema)
    #expect(manifest.secrets == ["password"])
    #expect(
      manifest.listeners == [
        .init(name: "http", configurationKey: "port", defaultAddress: "9942"),
        .init(name: "admin", configurationKey: "admin", defaultAddress: "127.0.0.1:1"),
        .init(name: "none", configurationKey: "other", defaultAddress: nil),
      ])
    #expect(manifest.metrics == ["rows_total"])
    #expect(manifest.licence == "MIT" && manifest.source == "https://example.org")
    #expect(manifest.warnings.isEmpty)
  }

  @Test func hasDefaults() throws {
    let manifest = try parse(with("id", "\"org.example.x\""))
    #expect(manifest.schemes.isEmpty && manifest.secrets.isEmpty && manifest.listeners.isEmpty)
    #expect(manifest.stateVersion == nil && !manifest.isVolatile)
    #expect(manifest.handover == .overlap && manifest.isolation == .any && manifest.runtime == "unspecified")
    #expect(manifest.configurationSchema == nil)
  }

  @Test(
    arguments: [
      ("id", nil, "lacks \"id\""), ("version", nil, "lacks \"version\""), ("kinds", nil, "lacks \"kinds\""),
      ("abi", nil, "lacks \"abi\""),
      ("id", "7", "at /id is a number; write a string"), ("id", "\"single\"", "reverse DNS"),
      ("id", "\"Org.Example\"", "reverse DNS"), ("id", "\"org..x\"", "reverse DNS"),
      ("id", "\"org.-x\"", "reverse DNS"),
      ("id", "\"org.x/../y\"", "reverse DNS"), ("id", "\"\"", "empty string"),
      ("id", "\"org.\\u0000x\"", "control character"),
      ("version", "\"1.0\"", "semantic version"), ("version", "\"01.0.0\"", "semantic version"),
      ("version", "\"1.0.0-\"", "semantic version"), ("version", "\"1.0.0-01\"", "semantic version"),
      ("version", "\"v1.0.0\"", "semantic version"), ("version", "\"1.0.0+a+b\"", "semantic version"),
      ("kinds", "[]", "/kinds is empty"), ("kinds", "\"backend\"", "is a string; write an array"),
      (
        "kinds", "[\"backend\", \"trasnport\"]",
        "at /kinds/1 is \"trasnport\", which is no kind of plugin (did you mean \"transport\"?)"
      ),
      ("kinds", "[\"backend\", \"backend\"]", "second time"), ("kinds", "[3]", "at /kinds/0 is a number"),
      ("schemes", "[\"SQLite\"]", "at /schemes/0"), ("schemes", "[\"a://\"]", "at /schemes/0"),
      ("abi", "{\"major\": 0}", "at /abi lacks \"minor\""),
      ("abi", "{\"major\": 0, \"minor\": -1}", "at /abi/minor is -1"),
      ("abi", "{\"major\": 0, \"minor\": 1.5}", "at /abi/minor is 1.5"), ("abi", "[0, 1]", "at /abi is an array"),
      ("abi", "{\"major\": 99999999999999999999, \"minor\": 1}", "at /abi/major"),
      ("volatile", "\"yes\"", "at /volatile is a string; write true or false"),
      ("handover", "\"overlapp\"", "did you mean \"overlap\"?"),
      ("isolation", "\"out\"", "use one of in, process, any"),
      ("state_version", "null", "at /state_version is null"),
      ("configuration_schema", "[]", "at /configuration_schema"),
      ("listeners", "[{\"name\": \"a\"}]", "at /listeners/0 lacks \"config_key\""),
      ("listeners", "[1]", "at /listeners/0"),
      ("listeners", "[{\"name\": \"a\", \"config_key\": \"k\", \"default\": {}}]", "at /listeners/0/default"),
      ("secrets", "[\"a\", \"a\"]", "at /secrets/1"), ("runtime", "{}", "at /runtime is an object"),
    ] as [(String, String?, String)])
  func saysWhatIsWrongWhere(key: String, value: String?, part: String) {
    let sentence = why(with(key, value))
    #expect(sentence.contains(part), "\(sentence)")
  }

  @Test(arguments: ["1.0.0", "0.0.0", "1.2.3-alpha.1", "1.0.0-0A.is.legal", "1.0.0+001", "10.20.30-rc--1+x.y"])
  func takesSemanticVersions(version: String) throws {
    #expect(try parse(with("version", "\"\(version)\"")).version == version)
  }

  @Test func warnsOfUnknownKeys() throws {
    let manifest = try parse(with("shemes", "[]"))
    #expect(manifest.warnings.count == 1)
    #expect(
      manifest.warnings.first?.contains("/shemes is not known and is ignored (did you mean \"schemes\"?)") == true)
    let odd = try parse(with("a/b~c\\nfake log line", "1"))
    #expect(odd.warnings.first?.contains("/a~1b~0c\\u{a}fake") == true)
    let many =
      "{" + (0..<500).map { "\"k\($0)\": 1" }.joined(separator: ",") + "," + with("id", "\"org.x\"").dropFirst()
    #expect(try parse(many).warnings.count == 17)
  }

  @Test func suggestsAMisspeltRequiredKey() {
    #expect(
      why("{\"verison\": \"1.0.0\", \"id\": \"org.x\"}").contains("lacks \"version\" (did you mean \"verison\"?)"))
  }

  @Test(arguments: [
    ("", "it ends where a value is expected"), ("[]", "is an array and not an object"), ("{} {}", "more text after"),
    ("{\"a\": 1,}", "a key in quotation marks"), ("{\"a\": [1,]}", "at /a/1 is not valid JSON"),
    ("{\"a\": {\"b\": 1, \"b\": 2}}", "at /a is not valid JSON, at byte 18: the key \"b\" is there twice"),
    ("{\"a\": 1, \"\\u0061\": 2}", "there twice"), ("{\"a\": 01}", "cannot begin with 0"),
    ("{\"a\": NaN}", "cannot begin"),
    ("{\"a\": 1.}", "a digit"), ("{\"a\": +1}", "cannot begin"), ("{\"a\": .5}", "cannot begin"),
    ("{\"a\": 1e}", "a digit"),
    ("{\"a\": \"\t\"}", "control character"), ("{\"a\": \"\\x\"}", "escape that JSON does not have"),
    ("{\"a\": \"\\ud800\"}", "half of a surrogate pair"), ("{\"a\": \"\\ud800\\u0041\"}", "half of a surrogate pair"),
    ("{\"a\": \"\\u00g0\"}", "hexadecimal"), ("{'a': 1}", "a key in quotation marks"), ("{\"a\": tru}", "cannot begin"),
    ("{\"a\": 1 // no\n}", "a comma or a closing brace"), ("\u{feff}{}", "byte order mark"), ("{\"a\"", "a colon"),
    ("{\"a\": \"x", "it ends inside a string"), ("{\"a\": [1", "it ends inside an array"),
    ("{", "a key in quotation marks"),
    ("{\"a\": 1", "it ends inside an object"), ("{\"a\": \"\\", "it ends inside a string"),
  ])
  func isStrict(text: String, part: String) {
    let sentence = why(text)
    #expect(sentence.contains(part), "\(sentence)")
  }

  @Test func isBoundedInDepthAndSize() throws {
    func nested(_ levels: Int) -> String {
      with(
        "configuration_schema",
        "{\"x\": " + String(repeating: "[", count: levels - 2) + String(repeating: "]", count: levels - 2) + "}")
    }
    _ = try parse(nested(32))
    #expect(why(nested(33)).contains("deeper than 32"))
    let large = Array(repeating: UInt8(ascii: " "), count: 65_537)
    #expect(
      refusal { () throws(Refusal) in try Manifest.parse(large, file: "x.so") }?.code == "plugin.manifest-too-large")
  }

  @Test func refusesInvalidUTF8() {
    for bad: [UInt8] in [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]] {
      let text = Array("{\"a\": \"".utf8) + bad + Array("\"}".utf8)
      let error = refusal { () throws(Refusal) in try Manifest.parse(text, file: "x.so") }
      #expect(error?.sentence.contains("not valid UTF-8") == true)
    }
  }

  @Test func decodesStrings() throws {
    let text = "\"\\u00e9\\ud83d\\ude00\\n\\/é😀\""
    #expect(try StrictJSON.parse(Array(text.utf8)).value == .string("é😀\n/é😀"))
  }

  @Test func survivesMutations() throws {
    var random = SeededGenerator(state: 3)
    let sound = Array(
      TinyPlugin.manifest(", \"listeners\": [{\"name\": \"a\\u00e9\", \"config_key\": \"k\", \"default\": 13}]").utf8)
    var taken = 0
    for _ in 0..<20_000 {
      var bytes = sound
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: at)
        default: bytes.insert("{}[]\",:\\u0e-.".utf8.randomElement(using: &random)!, at: at)
        }
      }
      if (try? Manifest.parse(bytes, file: "x.so")) != nil { taken += 1 }
    }
    #expect(taken > 0 && taken < 20_000)
  }
}
