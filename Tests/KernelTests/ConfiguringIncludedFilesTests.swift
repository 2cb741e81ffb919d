import Foundation
import Kernel
import Testing

@Suite struct ConfiguringIncludedFilesTests {
  private static let slot = "slots:\n  schema:\n    plugin: org.backplane.rules\n    rules: ${yaml:sub/rules.yaml}\n"

  @Test func theContentIsAPartOfTheSlot() throws {
    let folder = try ConfigurationFolder([
      "backplane.yaml": Self.slot,
      "sub/rules.yaml": "version: 1\nprograms:\n  mutable://a:\n    - json_schema: ${yaml:schemas/amount.json}\n",
      "sub/schemas/amount.json": #"{"type": "integer"}"#,
    ])
    let loaded = try folder.load()
    let slot = try #require(loaded.slot("schema"))
    #expect(slot.json == #"{"rules":{"programs":{"mutable://a":[{"json_schema":{"type":"integer"}}]},"version":1}}"#)
    #expect(slot.origin(at: "/rules")?.description == "file backplane.yaml:4")
    #expect(slot.origin(at: "/rules/programs/mutable:~1~1a/0/json_schema")?.description == "file sub/rules.yaml:4")
    #expect(
      slot.origin(at: "/rules/programs/mutable:~1~1a/0/json_schema/type/x")?.description
        == "file sub/schemas/amount.json:1")
    let names = ["backplane.yaml", "sub/rules.yaml", "sub/schemas/amount.json"]
    #expect(loaded.files == names.map { folder.path + "/" + $0 })
    #expect(loaded.watchedDirectories == ["", "/conf.d", "/sub", "/sub/schemas"].map { folder.path + $0 })
    #expect(loaded.value("slots.schema.rules") == #""${yaml:sub/rules.yaml}" file backplane.yaml:4"#)
  }

  @Test func aChangedFileIsAChangedSlot() throws {
    let folder = try ConfigurationFolder(["backplane.yaml": Self.slot, "sub/rules.yaml": "version: 1\n"])
    let before = try #require(try folder.load().slot("schema"))
    try folder.write("sub/rules.yaml", "# a remark\nversion: 1\n")
    #expect(try folder.load().slot("schema") == before)
    try folder.write("sub/rules.yaml", "version: 2\n")
    #expect(try folder.load().slot("schema") != before)
  }

  @Test func schemaModuleTakesAFileOfRules() throws {
    let folder = try ConfigurationFolder(["my-rules.yaml": "version: 1\n", "other.json": #"{"version": 1}"#])
    for name in ["./my-rules.yaml", "other.json"] {
      let loaded = try folder.load(["SCHEMA_MODULE": name])
      let slot = try #require(loaded.slot("schema"))
      #expect(slot.plugin == "org.backplane.rules" && slot.pluginPath == nil)
      #expect(slot.json == #"{"rules":{"version":1}}"#)
      #expect(loaded.watchedDirectories == [folder.path])
    }
  }

  /// Rules may come from somebody else: what is in them reads no secrets and no files elsewhere.
  @Test func otherPlaceholdersAreTextThere() throws {
    let folder = try ConfigurationFolder([
      "backplane.yaml": Self.slot, "sub/rules.yaml": "a: ${env:HOME}\npassword_file: /etc/passwd\nb: x ${yaml:c}\n",
    ])
    let slot = try #require(try folder.load().slot("schema"))
    #expect(slot.json == #"{"rules":{"a":"${env:HOME}","b":"x ${yaml:c}","password_file":"/etc/passwd"}}"#)
  }

  @Test(arguments: [
    (
      "a: ${yaml:../backplane.yaml}\n",
      "file sub/rules.yaml:1: slots.schema.rules.a (/slots/schema/rules/a): The file \"../backplane.yaml\" is not below the folder of the file that takes it in. Move it there."
    ),
    (
      "a: ${yaml:/etc/passwd}\n",
      "file sub/rules.yaml:1: slots.schema.rules.a (/slots/schema/rules/a): The file \"/etc/passwd\" is not below the folder of the file that takes it in. Move it there."
    ),
    (
      "x: 1\na: ${yaml:rules.yaml}\n",
      "file sub/rules.yaml:2: slots.schema.rules.a (/slots/schema/rules/a): The file \"rules.yaml\" takes itself in."
    ),
    (
      "a: ${yaml:none.yaml}\n",
      "file sub/rules.yaml:1: slots.schema.rules.a (/slots/schema/rules/a): The file \"sub/none.yaml\" cannot be read: it does not exist."
    ),
    ("a: [\n", "file sub/rules.yaml:2: The file is not valid YAML: did not find expected node content (column 1)."),
    ("- a\n", "file sub/rules.yaml:1: The file must be a mapping (`key: value` lines), but is a list."),
  ]) func wrongFiles(_ content: String, _ problem: String) throws {
    let folder = try ConfigurationFolder(["backplane.yaml": Self.slot, "sub/rules.yaml": content])
    #expect(folder.problems() == [problem])
  }

  @Test func aPlaceholderIsAWholeValue() throws {
    let folder = try ConfigurationFolder([
      "backplane.yaml": "slots:\n  schema:\n    plugin: org.backplane.rules\n    rules: see ${yaml:rules.yaml}\n"
    ])
    let problems = folder.problems()
    #expect(problems.count == 1 && problems[0].contains("must be the whole value of a slot's key"), "\(problems)")
  }

  @Test func theNumberOfFilesAndTheirDepthAreBounded() throws {
    var files = ["backplane.yaml": Self.slot]
    files["sub/rules.yaml"] = (0..<300).map { "a\($0): ${yaml:b.yaml}\n" }.joined()
    files["sub/b.yaml"] = "b: 1\n"
    let wide = try ConfigurationFolder(files)
    #expect(wide.problems().contains { $0.hasSuffix("More than 256 files are taken in.") })
    files["sub/rules.yaml"] = "a: ${yaml:0.yaml}\n"
    for level in 0..<9 { files["sub/\(level).yaml"] = "a: ${yaml:\(level + 1).yaml}\n" }
    files["sub/9.yaml"] = "a: 1\n"
    let deep = try ConfigurationFolder(files)
    #expect(deep.problems().contains { $0.hasSuffix("Files take in one another deeper than 8.") })
  }
}
