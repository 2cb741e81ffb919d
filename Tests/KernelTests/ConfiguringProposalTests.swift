import Foundation
import Kernel
import Testing

/// What a service proposes, laid over files, environment and flags.
@Suite struct ConfiguringProposalTests {
  private static let file = """
    slots:
      guide: {kind: service, plugin: org.example.guide, may_propose: true}
      primary: {kind: backend, url: "memory://", pool: 3}
    """

  private func folder(_ yaml: String = Self.file) throws -> ConfigurationFolder {
    try ConfigurationFolder(["backplane.yaml": yaml])
  }

  @Test func withoutReplacingItsBackendsComeFirst() throws {
    let loaded = try folder().load(proposing: #"{"backends":[{"url":"sqlite:///x.sqlite"},{"url":"memory://"}]}"#)
    #expect(loaded.backends == ["sqlite", "primary"])
    #expect(loaded.slot("primary")?.json == #"{"pool":3,"url":"memory://"}"#)
    #expect(loaded.value("slots.sqlite.url") == #""sqlite:///x.sqlite" proposal of slot guide at /backends/0/url"#)
    #expect(loaded.value("slots.primary.url") == #""memory://" file backplane.yaml:3"#)
  }

  @Test func whatItReplacesGoesAndWhatItNamesStays() throws {
    let folder = try folder(Self.file + "\n  second: {kind: backend, url: 'sqlite:///y.sqlite', order: 1}\n")
    let loaded = try folder.load(proposing: #"{"replaces":["backend"],"backends":[{"url":"memory://","pool":4}]}"#)
    #expect(loaded.backends == ["primary"])
    #expect(loaded.slot("primary")?.json == #"{"pool":4,"url":"memory://"}"#)
    #expect(try folder.load(proposing: #"{"replaces":["backend"],"slots":{"second":{}}}"#).backends == ["second"])
    #expect(
      folder.problems(proposing: #"{"replaces":["backend"]}"#).contains { $0.contains("The node has no backend") })
  }

  /// An unchanged backend keeps its slot, whatever else comes and goes; a slot's name does not come to mean another
  /// place.
  @Test func aBackendKeepsItsSlotFromProposalToProposal() throws {
    let folder = try folder()
    func text(_ urls: String...) -> String {
      #"{"replaces":["backend"],"backends":["# + urls.map { #"{"url":"\#($0)"}"# }.joined(separator: ",") + "]}"
    }
    var loaded = try folder.load(proposing: text("sqlite:///a.sqlite", "memory://", "memory://"))
    #expect(loaded.backends == ["sqlite", "primary", "memory"])
    loaded = try folder.load(proposing: text("memory://", "sqlite:///b.sqlite", "memory://"), after: loaded)
    #expect(loaded.backends == ["primary", "sqlite-2", "memory"])
    loaded = try folder.load(proposing: text("sqlite:///b.sqlite"), after: loaded)
    #expect(loaded.backends == ["sqlite-2"])
    // Read again with the files: the same.
    let again = try ConfigurationLoader.load(
      environment: [:], workingDirectory: folder.path, proposals: loaded.proposals)
    #expect(again.node == loaded.node && again.proposals == loaded.proposals)
  }

  @Test func aUrlIsComparedWithItsPlaceholdersFilled() throws {
    let yaml = """
      directories: {state: state}
      slots:
        guide: {kind: service, plugin: org.example.guide, may_propose: true}
        primary: {kind: backend, url: "postgresql://u:${env:SECRET}@h/d"}
        local: {kind: backend, url: "sqlite://", order: 1}
      """
    let folder = try folder(yaml)
    let loaded = try ConfigurationLoader.load(
      environment: ["SECRET": "hunter2"], workingDirectory: folder.path,
      proposals: [
        Proposal(
          slot: "guide",
          json: #"""
            {"replaces":["backend"],"backends":[{"url":"postgresql://u:hunter2@h/d"},
             {"url":"sqlite://${state_directory}/backplane.sqlite"}]}
            """#)
      ])
    #expect(loaded.backends == ["primary", "local"])
    // As the file has it: not the secret.
    #expect(loaded.slot("primary")?.redactedJSON.contains("hunter2") == false)
  }

  @Test func theNodesSettingsAndOtherSlotsMerge() throws {
    let folder = try folder(Self.file + "\n  http: {port: 1, cors_origin: https://a.example}\n")
    let loaded = try folder.load(
      proposing: #"""
        {"node":{"name":"east","write_policy":"all"},
         "slots":{"http":{"port":8080},"extra":{"kind":"transport","plugin":"org.example.x"},"primary":{"pool":null}}}
        """#)
    #expect(loaded.node.name == "east" && loaded.node.writePolicy == .all)
    #expect(loaded.value("node.name") == #""east" proposal of slot guide at /node/name"#)
    #expect(loaded.slot("http")?.json == #"{"cors_origin":"https://a.example","port":8080}"#)
    #expect(loaded.slot("extra")?.kind == .transport)
    #expect(loaded.slot("primary")?.json == #"{"pool":null,"url":"memory://"}"#)
    let without = try folder.load(proposing: #"{"slots":{"http":null}}"#)
    #expect(without.slot("http") == nil)
  }

  @Test func anotherPluginTakesOtherKeys() throws {
    let folder = try folder(Self.file + "\n  schema: {plugin_path: ./mine.so, strict: true, isolation: process}\n")
    let loaded = try folder.load(proposing: #"{"slots":{"schema":{"plugin":"org.backplane.rules","rules":{}}}}"#)
    let schema = try #require(loaded.slot("schema"))
    #expect(schema.plugin == "org.backplane.rules" && schema.pluginPath == nil && schema.isolation == .process)
    #expect(schema.json == #"{"rules":{}}"#)
  }

  @Test func theListOfBackendsInTheFilesStillOrdersTheOthers() throws {
    let folder = try folder(
      "node: {backends: [primary, second]}\n" + Self.file + "\n  second: {kind: backend, url: 'sqlite:///y.sqlite'}\n")
    #expect(
      try folder.load(proposing: #"{"backends":[{"url":"mongodb://h/d"}]}"#).backends == [
        "mongodb", "primary", "second",
      ])
    #expect(try folder.load(proposing: #"{"slots":{"primary":null}}"#).backends == ["second"])
    #expect(try folder.load(proposing: #"{}"#).backends == ["primary", "second"])
  }

  @Test(arguments: [
    (" ", "guide:", "It is not valid JSON at byte 1"),
    ("[]", "guide:", "A proposal must be an object"),
    (#"{"slots":{}"#, "guide", "it ends inside an object"),
    (#"{"slots":{},"slots":{}}"#, "guide", "is there twice"),
    (#"{"slot":{}}"#, "at /slot:", #"Did you mean "slots"?"#),
    (#"{"limits":{"body_size_bytes_max":1}}"#, "at /limits:", "is unknown here"),
    (#"{"replaces":"backend"}"#, "at /replaces:", "must be a list of kinds"),
    (#"{"replaces":["backend","service"]}"#, "at /replaces/1:", "must be one of backend, schema, transport"),
    (#"{"node":{"backends":["a"]}}"#, "at /node/backends:", "and not"),
    (#"{"node":{"write_policy":"most"}}"#, "at /node/write_policy:", "must be one of any, all, quorum"),
    (#"{"node":[]}"#, "at /node:", "must be an object"),
    (#"{"backends":{}}"#, "at /backends:", "must be a list of backends"),
    (#"{"backends":[{}]}"#, "at /backends/0:", "has no url"),
    (#"{"backends":["memory://"]}"#, "at /backends/0:", "must be an object with a url"),
    (#"{"backends":[{"url":"here"}]}"#, "at /backends/0/url:", "must be a URL"),
    (#"{"backends":[{"url":7}]}"#, "at /backends/0/url:", "must be a URL"),
    (#"{"backends":[{"url":"memory://","order":1}]}"#, "at /backends/0/order:", "place in the list"),
    (#"{"backends":[{"url":"memory://","kind":"schema"}]}"#, "at /backends/0/kind:", "must be backend"),
    (#"{"backends":[{"url":"x://a","isolation":"no"}]}"#, "at /backends/0/isolation:", "must be one of in, process"),
    (#"{"slots":{"http":3}}"#, "at /slots/http:", "must be an object, or null"),
    (#"{"slots":{"a~b/c":{"kind":"schema","plugin":"x.y"}}}"#, "at /slots/a~0b~1c:", "name must begin with a letter"),
    (#"{"slots":{"new":{}}}"#, "at /slots/new:", "has no kind"),
    (#"{"slots":{"http":{"port":70000}}}"#, "at /slots/http/port:", "whole number from 0 to 65535"),
    (#"{"slots":{"guide":{"x":1}}}"#, "at /slots/guide:", "the operator's alone"),
    (#"{"slots":{"guide":null}}"#, "at /slots/guide:", "the operator's alone"),
    (#"{"slots":{"spy":{"kind":"service","plugin":"x.y"}}}"#, "at /slots/spy:", "the operator's alone"),
    (#"{"slots":{"http":{"may_propose":true}}}"#, "at /slots/http/may_propose:", "Only a service can propose"),
    (#"{"slots":{"primary":null},"backends":[{"url":"memory://"}]}"#, "at /slots/primary:", "wanted elsewhere"),
  ])
  func whatIsNoConfigurationIsToldWithItsPlace(_ json: String, _ place: String, _ reason: String) throws {
    let problems = try folder().problems(proposing: json)
    #expect(
      problems.contains { $0.hasPrefix("proposal of slot guide") && $0.contains(reason) && $0.contains(place) },
      "\(problems)")
  }

  @Test func itsBoundsAreTold() throws {
    let folder = try folder()
    let deep =
      #"{"slots":{"http":{"x":"# + String(repeating: "[", count: 40) + String(repeating: "]", count: 40) + "}}}"
    #expect(folder.problems(proposing: deep).contains { $0.contains("deeper than 32") })
    let large = #"{"slots":{"http":{"x":""# + String(repeating: "a", count: 1 << 20) + #""}}}"#
    #expect(folder.problems(proposing: large).contains { $0.contains("at most 1048576") })
    let full = #"{"slots":{"http":{"x":["# + String(repeating: "1,", count: 100_000) + "1]}}}"
    #expect(folder.problems(proposing: full).contains { $0.contains("more than 100000 values") })
    let many = #"{"backends":["# + Array(repeating: #"{"url":"memory://"}"#, count: 65).joined(separator: ",") + "]}"
    #expect(folder.problems(proposing: many).contains { $0.contains("at most 64") })
  }

  @Test(arguments: [
    #""${credential:database}""#, #""${env:HOME}""#, #""${file:/etc/passwd}""#, #""a ${env:HOME} b""#,
    #""${yaml:/etc/passwd}""#,
    #""${yaml:../../secret.yaml}""#, #""${yaml:link/secret.yaml}""#, #"["x",{"y":"${env:HOME}"}]"#, #""${""#,
  ])
  func itReadsNothingOfThisMachine(_ value: String) throws {
    let folder = try folder("directories: {state: state}\n" + Self.file)
    try folder.write("outside/secret.yaml", "a: 1\n")
    try folder.write("secret.yaml", "a: 1\n")
    try folder.write("state/slots/guide/rules.yaml", "a: 1\n")
    try FileManager.default.createSymbolicLink(
      atPath: folder.path + "/state/slots/guide/link", withDestinationPath: folder.path + "/outside")
    let problems = folder.problems(proposing: #"{"slots":{"http":{"x":\#(value)}}}"#)
    #expect(problems.count == 1 && problems[0].contains("at /slots/http/x"), "\(problems)")
    #expect(!folder.problems(proposing: #"{"backends":[{"url":"x://a","x":\#(value)}]}"#).isEmpty)
  }

  @Test func itTakesInWhatItsServiceHasWritten() throws {
    let folder = try folder("directories: {state: state}\n" + Self.file)
    try folder.write("state/slots/guide/rules.yaml", "a: 1\n")
    for path in ["rules.yaml", "\(folder.path)/state/slots/guide/rules.yaml"] {
      let loaded = try folder.load(proposing: #"{"slots":{"http":{"x":"${yaml:\#(path)}","y":"$${env:HOME}"}}}"#)
      #expect(loaded.slot("http")?.json == #"{"cors_origin":"*","port":9942,"x":{"a":1},"y":"${env:HOME}"}"#)
      #expect(loaded.watchedDirectories.contains(folder.path + "/state/slots/guide"))
    }
  }

  @Test func keysThatNameASecretsFileAreRefused() throws {
    for key in ["url_file", "password_file", "db_token_file"] {
      let problems = try folder().problems(proposing: #"{"slots":{"primary":{"deep":[{"\#(key)":"/etc/passwd"}]}}}"#)
      #expect(problems.count == 1 && problems[0].contains("read"), "\(problems)")
    }
  }

  @Test func pluginFilesComeFromKnownFolders() throws {
    let folder = try folder("directories: {state: state, plugins: [good]}\n" + Self.file)
    for name in ["good/a.so", "bad/a.so", "state/slots/guide/plugins.d/a.so"] { try folder.write(name, "x") }
    try FileManager.default.createSymbolicLink(
      atPath: folder.path + "/good/link.so", withDestinationPath: folder.path + "/bad/a.so")
    try FileManager.default.createSymbolicLink(
      atPath: folder.path + "/good/dangling.so", withDestinationPath: folder.path + "/bad/later.so")
    func problems(_ path: String) -> [String] {
      folder.problems(proposing: #"{"slots":{"schema":{"plugin_path":"\#(path)"}}}"#)
    }
    for good in ["\(folder.path)/good/a.so", "\(folder.path)/good/missing.so", "plugins.d/a.so"] {
      #expect(problems(good).isEmpty, "\(good)")
    }
    for bad in ["bad/a.so", "good/../bad/a.so", "good/link.so", "good/dangling.so", "good", "goodness/a.so"] {
      #expect(problems("\(folder.path)/\(bad)").first?.contains("is in none of them") == true, "\(bad)")
    }
    let loaded = try folder.load(proposing: #"{"slots":{"schema":{"plugin_path":"plugins.d/a.so"}}}"#)
    #expect(loaded.slot("schema")?.pluginPath == folder.path + "/state/slots/guide/plugins.d/a.so")
    #expect(loaded.node.pluginDirectories == ["\(folder.path)/good", "\(folder.path)/state/slots/guide/plugins.d"])
  }

  @Test func proposalsOfSeveralSlotsMergeInTheOrderOfTheSlots() throws {
    let folder = try folder(
      Self.file + "\n  first: {kind: service, plugin: org.example.guide, may_propose: true, order: -1}\n")
    func load(_ first: String, _ guide: String) throws(ConfigurationError) -> LoadedConfiguration {
      try ConfigurationLoader.load(
        environment: [:], workingDirectory: folder.path,
        proposals: [Proposal(slot: "guide", json: guide), Proposal(slot: "first", json: first)])
    }
    let loaded = try load(
      #"{"backends":[{"url":"x://a"},{"url":"memory://","pool":9}],"slots":{"http":{"port":1}}}"#,
      #"{"backends":[{"url":"x://b"},{"url":"memory://","pool":9}],"slots":{"http":{"port":1,"more":2}}}"#)
    #expect(loaded.backends == ["x", "primary", "x-2"])
    #expect(loaded.slot("http")?.json == #"{"cors_origin":"*","more":2,"port":1}"#)
    #expect(loaded.proposals.map(\.slot) == ["first", "guide"])
    for (first, guide, place) in [
      (#"{"slots":{"http":{"port":1}}}"#, #"{"slots":{"http":{"port":2}}}"#, "/slots/http/port"),
      (#"{"slots":{"http":null}}"#, #"{"slots":{"http":{"port":2}}}"#, "/slots/http"),
      (#"{"node":{"name":"a"}}"#, #"{"node":{"name":"b"}}"#, "/node/name"),
      (
        #"{"backends":[{"url":"memory://","pool":1}]}"#, #"{"backends":[{"url":"memory://","pool":2}]}"#,
        "/backends/0/pool"
      ),
    ] {
      do {
        _ = try load(first, guide)
        Issue.record("no conflict: \(first) \(guide)")
      } catch {
        #expect(error.description.contains("proposal of slot guide at \(place): "), "\(error)")
        #expect(error.description.contains("proposal of slot first at \(place) says otherwise"), "\(error)")
      }
    }
  }

  @Test func onlyASlotThatMayProposesDoes() throws {
    for yaml in [
      "slots: {guide: {kind: service, plugin: x.y}}",
      "slots: {guide: {kind: service, plugin: x.y, may_propose: false}}",
      "slots: {other: {kind: service, plugin: x.y, may_propose: true}}",
    ] {
      let loaded = try folder(yaml).load(proposing: #"{"node":{"name":"east"}}"#)
      #expect(loaded.node.name == "backplane" && loaded.proposals.isEmpty)
      #expect(loaded.warnings.map(\.description).contains { $0.contains("proposal of slot guide: It is left out") })
    }
    let wrong = try folder("slots: {http: {may_propose: true}, guide: {kind: service, plugin: x.y, may_propose: 1}}")
    #expect(wrong.problems().contains { $0.contains("this slot is a transport") })
    #expect(wrong.problems().contains { $0.contains("/slots/guide/may_propose") && $0.contains("true or false") })
  }

  /// Whatever comes over the network: an answer, and none that shows a secret.
  @Test func anyTextIsTakenOrRefused() throws {
    let folder = try folder()
    let seed =
      #"{"replaces":["backend"],"node":{"name":"é\u0041"},"backends":[{"url":"memory://","n":-1.5e3},{"url":"x://u:hunter2@h"}],"slots":{"http":{"port":80,"l":[true,null,{}]},"schema":null}}"#
    var generator = SeededGenerator(state: 20_260_601)
    var refused = 0
    for _ in 0..<1500 {
      var bytes = Array(seed.utf8)
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: bytes[place] = UInt8.random(in: 0x20...0x7e, using: &generator)
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(Array("{}[]\",:\\$".utf8).randomElement(using: &generator)!, at: place)
        default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 9)], at: place)
        }
      }
      do throws(ConfigurationError) {
        let loaded = try folder.load(proposing: String(decoding: bytes, as: UTF8.self))
        #expect(loaded.node.slots.contains { $0.name == "guide" })
      } catch {
        refused += 1
        #expect(!error.problems.isEmpty && !error.description.contains("hunter2"), "\(error)")
      }
    }
    #expect(refused > 200)
  }
}

/// CONFIG_URL and what belongs to it.
@Suite struct ConfiguringManagedTests {
  private static let variables = [
    "CONFIG_URL": "https://config.example/b3nd", "OPERATOR_KEY": "0pera70r", "NODE_ID": "n0de",
    "NODE_PRIVATE_KEY_PEM": #"-----BEGIN PRIVATE KEY-----\nTOPSECRET\n-----END PRIVATE KEY-----"#,
    "NODE_ENCRYPTION_PRIVATE_KEY_HEX": "c0ffee00", "OPERATOR_ENCRYPTION_PUBLIC_KEY_HEX": "abcd",
  ]

  @Test func theEnvironmentMakesTheSlot() throws {
    let loaded = try ConfigurationFolder().load(Self.variables)
    let slot = try #require(loaded.slot("managed"))
    #expect(slot.kind == .service && slot.plugin == "org.backplane.managed" && slot.mayPropose)
    #expect(
      slot.json
        == #"{"config_url":"https://config.example/b3nd","node_encryption_private_key_hex":"c0ffee00","node_id":"n0de","node_private_key_pem":"-----BEGIN PRIVATE KEY-----\nTOPSECRET\n-----END PRIVATE KEY-----","operator_encryption_public_key_hex":"abcd","operator_key":"0pera70r"}"#
    )
    #expect(loaded.value("slots.managed.operator_key") == #""0pera70r" env OPERATOR_KEY"#)
    #expect(loaded.value("slots.managed.may_propose") == "true env CONFIG_URL")
    #expect(try ConfigurationFolder().load(["NODE_ID": "n0de"]).slot("managed") == nil)
  }

  @Test func aKeyWithLineBreaksIsTheSame() throws {
    var variables = Self.variables
    variables["NODE_PRIVATE_KEY_PEM"] = variables["NODE_PRIVATE_KEY_PEM"]!.replacingOccurrences(of: "\\n", with: "\n")
    #expect(
      try ConfigurationFolder().load(variables).slot("managed")
        == ConfigurationFolder().load(Self.variables).slot("managed"))
  }

  @Test func whatIsMissingIsToldInOrder() throws {
    let problems = try ConfigurationFolder().problems(["CONFIG_URL": "https://config.example"])
    #expect(
      problems.map { $0.components(separatedBy: "): ").last } == [
        "OPERATOR_KEY env var required when CONFIG_URL is set", "NODE_ID env var required when CONFIG_URL is set",
        "NODE_PRIVATE_KEY_PEM env var required when CONFIG_URL is set",
      ])
    var flags = ConfigurationFlags()
    flags.configURL = "https://flag.example"
    #expect(try ConfigurationFolder().problems([:], flags).count == 3)
    #expect(
      try ConfigurationFolder().load(Self.variables, flags).value("slots.managed.config_url")
        == #""https://flag.example" flag --config-url"#)
  }

  @Test func theFilesSlotKeepsItsOtherKeysAndTheEnvironmentWins() throws {
    let yaml = """
      slots:
        managed:
          plugin_path: ./managed.so
          may_propose: false
          updates: apply
          node_id: from-the-file
          config_token: t0psecret
          operator_key: from-the-file
      """
    let folder = try ConfigurationFolder(["backplane.yaml": yaml])
    var variables = Self.variables
    variables["OPERATOR_KEY"] = nil
    let loaded = try folder.load(variables)
    let slot = try #require(loaded.slot("managed"))
    #expect(slot.plugin == nil && slot.pluginPath == folder.path + "/managed.so" && slot.mayPropose)
    #expect(loaded.value("slots.managed.node_id") == #""n0de" env NODE_ID"#)
    #expect(loaded.value("slots.managed.operator_key") == #""from-the-file" file backplane.yaml:8"#)
    #expect(loaded.value("slots.managed.updates") == #""apply" file backplane.yaml:5"#)
    let other = try ConfigurationFolder(["backplane.yaml": "slots: {managed: {kind: backend, url: 'memory://'}}"])
    #expect(other.problems(Self.variables).contains { $0.contains("no service") })
  }

  /// Nothing that shows a value shows a key.
  @Test func keysAndTokensAreNotShown() throws {
    let yaml = "slots: {managed: {config_token: t0psecret, kind: service}}\n"
    let loaded = try ConfigurationFolder(["backplane.yaml": yaml]).load(Self.variables)
    let slot = try #require(loaded.slot("managed"))
    let shown = "\(loaded.values) \(slot) \(slot.redactedJSON) \(String(reflecting: slot)) \(loaded.warnings)"
    for secret in ["TOPSECRET", "c0ffee00", "t0psecret"] {
      #expect(!shown.contains(secret), "\(secret)")
      #expect(slot.json.contains(secret))
    }
    for key in ["node_private_key_pem", "node_encryption_private_key_hex", "config_token"] {
      #expect(Redaction.isSecretKey(key) && loaded.value("slots.managed.\(key)")?.hasPrefix(#""***""#) == true)
    }
    #expect(loaded.value("slots.managed.operator_encryption_public_key_hex")?.contains("abcd") == true)
    let proposal = Proposal(slot: "managed", json: #"{"backends":[{"url":"x://u:hunter2@h"}]}"#)
    #expect(!"\(proposal) \(String(reflecting: proposal))".contains("hunter2"))
  }
}

extension ConfigurationFolder {
  func load(proposing json: String, after before: LoadedConfiguration? = nil) throws(ConfigurationError)
    -> LoadedConfiguration
  {
    try ConfigurationLoader.load(
      environment: [:], workingDirectory: path,
      proposals: [Proposal(slot: "guide", json: json, after: before?.proposals.first { $0.slot == "guide" })])
  }

  func problems(proposing json: String) -> [String] {
    do throws(ConfigurationError) {
      _ = try load(proposing: json)
      return []
    } catch { return error.problems.map(\.description) }
  }
}

extension LoadedConfiguration {
  fileprivate var backends: [String] { node.slots(of: .backend).map(\.name) }
}
