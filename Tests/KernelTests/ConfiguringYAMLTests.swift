import Kernel
import Testing

@Suite struct ConfiguringYAMLTests {
  private func problem(_ yaml: String) throws -> String {
    try ConfigurationFolder(["backplane.yaml": yaml]).problems().first ?? "(taken)"
  }

  @Test(arguments: [
    ("a: [", "not valid YAML"),
    ("log:\n  level: info\n  level: debug\n", "stands more than once"),
    ("log: {level: info, \"level\": debug}\n", "stands more than once"),
    ("- a\n", "must be a mapping (`key: value` lines), but is a list"),
    ("log: {}\n---\nlog: {}\n", "another document"),
    ("log: &x {level: info}\nreload: {<<: *x}\n", "Merge keys"),
    ("log: !!python/object {level: info}\n", "tag"),
    ("slots: {a: {kind: backend, url: 'memory://', n: 99999999999999999999}}\n", "does not fit into 64 bits"),
    ("? [a]\n: 1\n", "A key must be a word"),
    ("log: {level: *nobody}\n", "undefined alias"),
  ])
  func strictness(yaml: String, expected: String) throws {
    let text = try problem(yaml)
    #expect(text.contains(expected), "\(text)")
    #expect(text.hasPrefix("file backplane.yaml:"))
  }

  @Test func sizeDepthAndCountAreBounded() throws {
    #expect(try problem(String(repeating: "# x\n", count: 300_000)).contains("larger than 1024 KiB"))
    let deep = String(repeating: "[", count: 40) + String(repeating: "]", count: 40)
    #expect(try problem("slots: {a: {kind: backend, url: 'memory://', x: \(deep)}}").contains("deeper than 32"))
    // libyaml's own bound keeps the recursion of the parser off the end of the stack.
    for depth in [999, 100_000] {
      #expect(try problem("a: " + String(repeating: "[", count: depth)) != "(taken)")
      #expect(try problem(String(repeating: "- ", count: depth) + "a") != "(taken)")
      #expect(
        try problem(String(repeating: "[", count: depth) + String(repeating: "]", count: depth)) != "(taken)")
    }
    let many = "slots: {a: {kind: backend, url: 'memory://', x: [" + String(repeating: "1,", count: 100_001) + "]}}"
    #expect(try problem(many).contains("more than 100000 values"))
  }

  @Test func anAliasBombIsRefusedInBoundedTime() throws {
    let levels = (1..<30).map { level in
      "l\(level): &l\(level) [" + (0..<9).map { _ in "*l\(level - 1)" }.joined(separator: ",") + "]\n"
    }
    #expect(try problem("l0: &l0 [x]\n" + levels.joined()).contains("more than 32 aliases"))
    // The most that may pass the count, as a key, which Yams hashes before anything here sees it.
    let few = (1...10).map { "l\($0): &l\($0) [*l\($0 - 1), *l\($0 - 1), *l\($0 - 1)]\n" }.joined()
    #expect(try problem("l0: &l0 [x]\n" + few + "? *l10\n: 1\n") != "(taken)")
    let plain = try ConfigurationFolder([
      "backplane.yaml": "slots:\n  a: { kind: backend, url: 'memory://', x: &x [1], y: *x, cors: '*' }\n"
    ]).load()
    #expect(plain.slot("a")?.json == #"{"cors":"*","url":"memory://","x":[1],"y":[1]}"#)
  }

  @Test func plainWordsMeanWhatTheCoreSchemaSays() throws {
    let loaded = try ConfigurationFolder([
      "backplane.yaml": """
      slots:
        a:
          kind: backend
          url: memory://
          v: [yes, on, true, ~, 010, 0x1F, -5, 1:30, 1.50, 1e3, .5, "7", 2020-01-01, .inf, !!str 12, "a\\u0001\\"\\n", é, -0.0]
      """
    ]).load()
    #expect(
      loaded.slot("a")?.json
        == #"{"url":"memory://","v":["yes","on",true,null,10,31,-5,"1:30",1.5,1000.0,0.5,"7","2020-01-01",".inf","12","a\u0001\"\n","é",-0.0]}"#
    )
  }

  @Test func invalidUTF8IsASentence() throws {
    let folder = try ConfigurationFolder()
    try folder.write("backplane.yaml", bytes: [0x61, 0x3A, 0x20, 0xFF])
    #expect(folder.problems() == ["file backplane.yaml: The file is not valid UTF-8. Save it as UTF-8."])
  }

  @Test func rubbishNeverCrashes() throws {
    let folder = try ConfigurationFolder()
    let seed = "node: {write_policy: any}\nslots:\n  a: &a {kind: backend, url: \"memory://\", b: [1, 2.5, *a]}\n"
    let alphabet = Array("[]{}:,-?&*!|>'\"%@`#\n\t \\~<=0aé\u{FFFE}".utf8) + [0x00, 0xFF, 0xC3]
    var generator = YAMLSeededGenerator(state: 42)
    var taken = 0
    for _ in 0..<1500 {
      var bytes = Array(seed.utf8)
      for _ in 0..<Int.random(in: 1...6, using: &generator) {
        let index = Int.random(in: 0..<bytes.count, using: &generator)
        let byte = alphabet.randomElement(using: &generator)!
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: bytes[index] = byte
        case 1: bytes.insert(byte, at: index)
        default: bytes.remove(at: index)
        }
      }
      try folder.write("backplane.yaml", bytes: bytes)
      do throws(ConfigurationError) {
        _ = try folder.load()
        taken += 1
      } catch { #expect(!error.problems.isEmpty) }
    }
    // Both outcomes must occur, or the mutations test nothing.
    #expect(taken > 0 && taken < 1500)
  }
}

/// SplitMix64: the same bytes in every run.
private struct YAMLSeededGenerator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
