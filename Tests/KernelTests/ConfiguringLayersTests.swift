import Foundation
import Kernel
import Testing

@Suite struct ConfiguringLayersTests {
  @Test func anEmptyEnvironmentGivesANodeThatRuns() throws {
    let folder = try ConfigurationFolder()
    let loaded = try folder.load()
    let backend = try #require(loaded.slot("sqlite"))
    #expect(backend.kind == .backend && backend.plugin == nil && backend.scheme == "sqlite")
    #expect(backend.json == #"{"url":"sqlite://\#(folder.path)/data/backplane.sqlite"}"#)
    let transport = try #require(loaded.slot("http"))
    #expect(transport.plugin == "org.backplane.http")
    #expect(transport.json == #"{"cors_origin":"*","port":9942}"#)
    #expect(loaded.slot("schema")?.plugin == "org.backplane.permissive")
    #expect(loaded.node.slots.map(\.name) == ["sqlite", "schema", "http"])
    #expect(loaded.node.writePolicy == .any)
    #expect(loaded.node.directories.plugins == [folder.path + "/plugins.d"])
    #expect(loaded.node.directories.controlSocket == folder.path + "/data/run/control.sock")
    #expect(loaded.node.limits.retainedImagesMax == 500)
    #expect(loaded.value("slots.http.port") == "9942 default")
    #expect(loaded.files.isEmpty && loaded.warnings.isEmpty)
  }

  @Test func theSeedsEnvironmentIsTaken() throws {
    let folder = try ConfigurationFolder()
    let loaded = try folder.load([
      "PORT": "8080", "CORS_ORIGIN": "https://a.example", "SCHEMA_MODULE": "./my-schema.so",
      "BACKEND_URL": "memory://, postgresql://u:secret@db:5432/b3nd ,memory://",
    ])
    #expect(loaded.slot("http")?.json == #"{"cors_origin":"https://a.example","port":8080}"#)
    #expect(loaded.slot("schema")?.plugin == nil)
    #expect(loaded.slot("schema")?.pluginPath == folder.path + "/my-schema.so")
    #expect(loaded.node.slots(of: .backend).map(\.name) == ["memory", "postgresql", "memory-2"])
    #expect(loaded.node.slots(of: .backend).map(\.order) == [0, 1, 2])
    #expect(loaded.slot("postgresql")?.json == #"{"url":"postgresql://u:secret@db:5432/b3nd"}"#)
    #expect(loaded.value("slots.http.port") == "8080 env PORT")
    #expect(
      loaded.value("slots.postgresql.url") == #""postgresql://u:***@db:5432/b3nd" env BACKEND_URL"#)
  }

  @Test func laterLayersWinAndSayWhereFrom() throws {
    let folder = try ConfigurationFolder([
      "backplane.yaml": "limits:\n  body_size_bytes_max: 100\n  list_page_records_max: 20\nlog:\n  level: debug\n",
      "conf.d/20-b.yaml": "limits:\n  body_size_bytes_max: 300\n",
      "conf.d/10-a.yaml": "limits: { body_size_bytes_max: 200, batch_messages_max: 7 }\n",
      "conf.d/.hidden.yaml": "nonsense: 1\n", "conf.d/notes.txt": "nonsense",
    ])
    var loaded = try folder.load()
    #expect(loaded.value("limits.body_size_bytes_max") == "300 file conf.d/20-b.yaml:2")
    #expect(loaded.value("limits.batch_messages_max") == "7 file conf.d/10-a.yaml:1")
    #expect(loaded.value("limits.list_page_records_max") == "20 file backplane.yaml:3")
    #expect(loaded.node.limits.bodySizeBytesMax == 300)
    #expect(loaded.files == ["backplane.yaml", "conf.d/10-a.yaml", "conf.d/20-b.yaml"].map { folder.path + "/" + $0 })
    #expect(loaded.watchedDirectories == [folder.path, folder.path + "/conf.d"])
    let environment = ["BACKPLANE_LIMITS_BODY_SIZE_BYTES_MAX": "400", "BACKPLANE_LOG_LEVEL": "error"]
    loaded = try folder.load(environment)
    #expect(
      loaded.value("limits.body_size_bytes_max") == "400 env BACKPLANE_LIMITS_BODY_SIZE_BYTES_MAX")
    var flags = ConfigurationFlags()
    flags.settings = ["limits.body_size_bytes_max=500", "reload.watch=false"]
    flags.logLevel = "warning"
    flags.port = "0"
    loaded = try folder.load(environment, flags)
    #expect(loaded.value("limits.body_size_bytes_max") == "500 flag --set")
    #expect(loaded.value("log.level") == #""warning" flag --log-level"#)
    #expect(loaded.node.reload.watch == false)
    #expect(loaded.value("slots.http.port") == "0 flag --port")
  }

  @Test func slotsMergeKeyByKeyAndEqualityIgnoresWhereAValueStands() throws {
    let folder = try ConfigurationFolder([
      "backplane.yaml": """
      slots:
        primary:
          kind: backend
          url: sqlite:///var/x.sqlite
          pragmas: { cache: 1, mode: [a, {b: 1.5}] }
        http: { port: 1 }
      """
    ])
    let before = try folder.load()
    #expect(
      before.slot("primary")?.json
        == #"{"pragmas":{"cache":1,"mode":["a",{"b":1.5}]},"url":"sqlite:///var/x.sqlite"}"#)
    #expect(before.slot("primary")?.origin(at: "/pragmas/mode/1/b")?.description == "file backplane.yaml:5")
    #expect(before.slot("primary")?.origin(at: "/pragmas/nothing/below")?.description == "file backplane.yaml:5")
    #expect(before.slot("http")?.json == #"{"cors_origin":"*","port":1}"#)
    // The same content, written elsewhere: no slot may count as changed.
    try folder.write(
      "backplane.yaml",
      "\n\nslots:\n  http:\n    port: 1\n  primary:\n    pragmas: {mode: [a, {b: 1.50}], cache: 1}\n"
        + "    kind: backend\n    url: 'sqlite:///var/x.sqlite'\n")
    #expect(try folder.load().node == before.node)
    try folder.write("conf.d/a.yaml", "slots:\n  primary:\n    pragmas: { cache: 2 }\n  http: ~\n")
    let after = try folder.load()
    #expect(after.slot("primary") != before.slot("primary"))
    #expect(after.slot("primary")?.json.contains(#""cache":2,"mode""#) == true)
    #expect(after.slot("schema") == before.slot("schema"))
    #expect(after.slot("http") == nil)
  }

  @Test func anotherPluginUnderADefaultNameGetsNoDefaultKeys() throws {
    let folder = try ConfigurationFolder([
      "backplane.yaml": "slots:\n  http: { plugin: com.example.web, port: 80 }\n  schema: { plugin_path: s.so, x: 1 }\n"
    ])
    let loaded = try folder.load()
    #expect(loaded.slot("http")?.json == #"{"port":80}"#)
    #expect(loaded.slot("schema")?.plugin == nil && loaded.slot("schema")?.pluginPath == folder.path + "/s.so")
    #expect(loaded.slot("schema")?.json == #"{"x":1}"#)
  }

  @Test func theOrderOfBackendsMustBeSaid() throws {
    let two = "slots:\n  b: { kind: backend, url: 'memory://' }\n  a: { kind: backend, url: 'memory://' }\n"
    let folder = try ConfigurationFolder(["backplane.yaml": two])
    #expect(folder.problems().first?.contains("The backends a, b have the same order (0)") == true)
    try folder.write("backplane.yaml", "node: { backends: [b, a] }\n" + two)
    #expect(try folder.load().node.slots(of: .backend).map(\.name) == ["b", "a"])
    try folder.write("backplane.yaml", "node: { backends: [b, c, b] }\n" + two)
    let problems = folder.problems()
    #expect(problems.contains { $0.contains("/node/backends/1") && $0.contains("no backend slot \"c\"") })
    #expect(problems.contains { $0.contains("named twice") })
    #expect(problems.contains { $0.contains("leaves out the backend slot a") })
  }

  @Test func aBackendListReplacesTheFilesBackendsAndSaysSo() throws {
    let folder = try ConfigurationFolder([
      "backplane.yaml":
        "slots:\n  primary: { kind: backend, url: 'memory://' }\n  sqlite: { kind: backend, url: 'sqlite:///a', durability: disk, order: 3 }\n"
    ])
    var flags = ConfigurationFlags()
    flags.backendURLs = ["sqlite:///b", "memory://"]
    let loaded = try folder.load(["BACKEND_URL": "nonsense"], flags)
    #expect(loaded.node.slots(of: .backend).map(\.name) == ["sqlite", "memory"])
    #expect(loaded.slot("sqlite")?.json == #"{"durability":"disk","url":"sqlite:///b"}"#)
    #expect(
      loaded.warnings.map(\.description) == [
        "flag --backend: It takes the place of these backend slots of the files: primary."
      ])
  }

  @Test func pathsAreRelativeToWhatNamesThem() throws {
    let folder = try ConfigurationFolder([
      "etc/backplane.yaml": "directories: { state: ../var, plugins: [p, /abs/./q/../r] }\n"
    ])
    var flags = ConfigurationFlags()
    flags.config = "etc/backplane.yaml"
    let directories = try folder.load(["RUNTIME_DIRECTORY": "/run/backplane:/run/other"], flags).node.directories
    #expect(directories.state == folder.path + "/var")
    #expect(directories.staging == folder.path + "/var/staging")
    #expect(directories.plugins == [folder.path + "/etc/p", "/abs/r"])
    #expect(directories.controlSocket == "/run/backplane/control.sock")
    #expect(try folder.load(["STATE_DIRECTORY": "s"]).node.directories.state == folder.path + "/s")
  }

  @Test func theDocumentationNamesEverySetting() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let text = try String(contentsOf: root.appendingPathComponent("docs/configuration.md"), encoding: .utf8)
    for setting in SettingCatalog.all {
      let row = try #require(
        text.split(separator: "\n").first { $0.hasPrefix("| `\(setting.key)` |") }, "\(setting.key) has no row")
      for name in setting.environmentNames { #expect(row.contains("`\(name)`"), "\(setting.key): \(name)") }
      if let flag = setting.flag { #expect(row.contains("`\(flag)`"), "\(setting.key): \(flag)") }
      if let value = setting.defaultText ?? setting.defaultNote { #expect(row.contains(value), "\(setting.key)") }
      if case .integer(let range) = setting.kind {
        #expect(row.contains("\(range.lowerBound) – \(range.upperBound)"), "\(setting.key): range")
      }
    }
  }
}
