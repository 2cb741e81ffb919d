import Kernel
import Testing

@Suite struct ConfiguringProblemsTests {
  @Test func allProblemsAreTold() throws {
    let folder = try ConfigurationFolder([
      "backplane.yaml": """
      limits:
        body_size_byte_max: 5
        list_page_records_max: "20"
        in_flight_per_slot_max: 0
      reload:
        watch: yes
        level: info
      lgo: {}
      slots:
        A: { kind: backend, url: "memory://" }
        b: { kind: bakend }
        c: { kind: backend }
        d: 5
        e: { kind: transport, plugin: org.x.y, plugin_path: z, port: 70000 }
        f: { kind: backend, plugin: some.plugin, url: nonsense }
      """
    ])
    let expected = [
      #"file backplane.yaml:2: limits.body_size_byte_max (/limits/body_size_byte_max): The key "body_size_byte_max" is unknown here. Did you mean "body_size_bytes_max"?"#,
      #"file backplane.yaml:3: limits.list_page_records_max (/limits/list_page_records_max): The value must be a whole number from 1 to 100000 (records), but is the text "20". Take the quotes off."#,
      "file backplane.yaml:4: limits.in_flight_per_slot_max (/limits/in_flight_per_slot_max): The value must be a whole number from 1 to 1000000 (calls), but is 0.",
      #"file backplane.yaml:6: reload.watch (/reload/watch): The value must be true or false, but is the text "yes". Write true or false."#,
      #"file backplane.yaml:7: reload.level (/reload/level): The key "level" is unknown here. It belongs in log.level."#,
      #"file backplane.yaml:8: lgo (/lgo): The key "lgo" is unknown here. Did you mean "log"?"#,
      "file backplane.yaml:13: slots.d (/slots/d): A slot must be a mapping with `kind` and what its plugin takes, but is 5.",
      "env PORT: slots.e.port (/slots/e/port): The port must be a whole number from 0 to 65535 (0: any free one), but is the text \"99x\".",
      "file backplane.yaml:10: slots.A (/slots/A): A slot's name must begin with a letter and hold only a-z, 0-9, - and _, at most 63 of them.",
      #"file backplane.yaml:11: slots.b.kind (/slots/b/kind): The kind "bakend" is unknown. Did you mean "backend"?"#,
      "file backplane.yaml:12: slots.c (/slots/c): The slot names neither a plugin nor a url. Give it url: (such as sqlite:///var/data.sqlite) or plugin:.",
      "file backplane.yaml:14: slots.e.plugin_path (/slots/e/plugin_path): Give plugin or plugin_path, not both.",
      "file backplane.yaml:14: slots.e.port (/slots/e/port): The port must be a whole number from 0 to 65535 (0: any free one), but is 70000.",
      #"file backplane.yaml:15: slots.f.url (/slots/f/url): The value must be a URL (scheme://…), but is the text "nonsense"."#,
    ]
    #expect(folder.problems(["PORT": "99x"]) == expected)
  }

  @Test(arguments: ["abc", "65536", "-1", "80.5", " 80", "1e3", "99999999999999999999"])
  func aBadPortIsASentence(port: String) throws {
    let problems = try ConfigurationFolder().problems(["PORT": port])
    #expect(
      problems == [
        "env PORT: slots.http.port (/slots/http/port): The port must be a whole number from 0 to 65535 "
          + "(0: any free one), but is the text \"\(port)\"."
      ])
  }

  @Test func anEmptyVariableIsNotSet() throws {
    let loaded = try ConfigurationFolder().load(["PORT": "", "BACKEND_URL": "", "BACKPLANE_CONFIG": ""])
    #expect(loaded.value("slots.http.port") == "9942 default")
  }

  @Test func backendListsAreChecked() throws {
    let folder = try ConfigurationFolder()
    #expect(folder.problems(["BACKEND_URL": " , "]).first?.contains("holds no backend") == true)
    let problems = folder.problems(["BACKEND_URL": "memory://,u:p:w@host"])
    #expect(problems.first?.contains("Entry 2, \"u:p:w@host\", is not a URL") == true)
  }

  @Test func unknownVariablesAndSettingsAreTold() throws {
    let folder = try ConfigurationFolder()
    let loaded = try folder.load(["BACKPLANE_LOG_LEVL": "info", "BACKPLANE_NODE": "x", "OTHER": "y"])
    #expect(loaded.warnings.count == 1)
    #expect(loaded.warnings.first?.message.contains("Did you mean BACKPLANE_LOG_LEVEL?") == true)
    var flags = ConfigurationFlags()
    flags.settings = ["log.levl=info", "log.level", "log.format=jsn"]
    let problems = folder.problems([:], flags)
    #expect(problems.count == 3)
    #expect(problems.first == "flag --set: There is no setting \"log.levl\". Did you mean \"log.level\"?")
    #expect(problems.last?.contains("Did you mean \"json\"?") == true)
  }

  @Test func missingFilesAndOddFiles() throws {
    let folder = try ConfigurationFolder()
    var flags = ConfigurationFlags()
    flags.config = "none.yaml"
    #expect(
      folder.problems([:], flags) == [
        "flag --config: The configuration file \"none.yaml\" cannot be read: it does not exist."
      ])
    flags.config = "."
    #expect(folder.problems([:], flags).first?.contains("it is not a regular file") == true)
    flags.config = "/dev/zero"
    #expect(folder.problems([:], flags).first?.contains("it is not a regular file") == true)
    let hard = ["BACKPLANE_RELOAD_DRAIN_HARD_MS": "5"]
    #expect(folder.problems(hard).first?.contains("must not be less than drain_soft_ms (30000 ms)") == true)
    let long = ["RUNTIME_DIRECTORY": "/" + String(repeating: "r", count: 100)]
    #expect(folder.problems(long).first?.contains("107 bytes") == true)
  }

  @Test func aReportIsBounded() throws {
    let lines = (0..<500).map { "key\($0): 1\n" }.joined()
    let problems = try ConfigurationFolder(["backplane.yaml": lines]).problems()
    #expect(problems.count == 101)
    #expect(problems.last?.contains("400 more problems") == true)
  }
}
