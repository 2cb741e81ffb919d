/// The files of a new plugin.
struct Scaffold {
  let kind: PluginNew.Kind
  let language: PluginNew.Language
  let name: PluginName
  /// Absolute path of the PluginAPI package.
  let pluginAPI: String

  struct File {
    /// Relative to the plugin's folder.
    let path: String
    let text: String
  }

  var files: [File] {
    let templates =
      switch language {
      case .c: cTemplates
      case .swift: swiftTemplates
      }
    let values = values
    return templates.map { File(path: $0.0, text: Scaffold.fill($0.1, values)) }
  }

  private var cTemplates: [(String, String)] {
    let code =
      switch kind {
      case .backend: CBackendTemplate.code
      case .schema: CSchemaTemplate.code
      case .transport: CTransportTemplate.code
      case .service: CServiceTemplate.code
      }
    return [
      ("plugin.c", code), ("configuration.h", CConfigurationTemplate.code), ("manifest.json", manifest),
      ("Makefile", CPackageTemplate.makefile),
      ("exports.map", CommonTemplate.exports), (".gitignore", CPackageTemplate.ignore),
      ("README.md", CommonTemplate.readme),
    ]
  }

  private var swiftTemplates: [(String, String)] {
    let module = name.module
    var (code, tests) =
      switch kind {
      case .backend: ([("\(module).swift", SwiftBackendTemplate.code)], SwiftBackendTemplate.tests)
      case .schema: ([("\(module).swift", SwiftSchemaTemplate.code)], SwiftSchemaTemplate.tests)
      case .transport: ([("\(module).swift", SwiftTransportTemplate.code)], SwiftTransportTemplate.tests)
      case .service: ([("\(module).swift", SwiftServiceTemplate.code)], SwiftServiceTemplate.tests)
      }
    if kind == .transport { code.append(("LineThread.swift", SwiftTransportTemplate.thread)) }
    return [("Package.swift", SwiftPackageTemplate.package)]
      + code.map { ("Sources/\(module)/\($0.0)", $0.1) } + [
        ("Sources/\(module)Manifest/manifest.json", manifest),
        ("Sources/\(module)Manifest/manifest.c", SwiftPackageTemplate.manifestCode),
        // SwiftPM asks for a header; there is nothing to declare.
        ("Sources/\(module)Manifest/include/\(module)Manifest.h", ""),
        ("Tests/\(module)Tests/\(module)Tests.swift", tests), ("exports.map", CommonTemplate.exports),
        (".gitignore", SwiftPackageTemplate.ignore), ("README.md", CommonTemplate.readme),
      ]
  }

  private var manifest: String {
    switch kind {
    case .backend: CommonTemplate.backendManifest
    case .schema: CommonTemplate.schemaManifest
    case .transport: CommonTemplate.transportManifest
    case .service: CommonTemplate.serviceManifest
    }
  }

  private var values: [String: String] {
    let isSwift = language == .swift
    let texts = ScaffoldTexts(kind: kind, name: name, handsStateOver: isSwift && kind == .backend)
    return [
      "name": name.given, "slug": name.slug, "Module": name.module, "id": "org.example.\(name.slug)",
      "kind": kind.rawValue, "language": language.rawValue, "Language": isSwift ? "Swift" : "C",
      "pluginAPI": pluginAPI, "include": "\(pluginAPI)/ABI/include",
      "build": isSwift ? "swift build -c release" : "make",
      "buildNote": isSwift
        ? " (`swift test` runs its tests; `BACKPLANE_PLUGIN_API` says where the PluginAPI package is, else what "
          + "`Package.swift` says)"
        : " (`make BACKPLANE_INCLUDE=...` says where the headers are, else what the Makefile says)",
      "library": isSwift ? ".build/release/lib\(name.slug).so" : "\(name.slug).so",
      "state": texts.handsStateOver ? "\n  \"state_version\": 1," : "",
      "what": texts.what, "slot": texts.slot, "notes": texts.notes,
    ]
  }

  /// Replaces each `{{key}}`, in one pass: what a value holds is not looked at again.
  private static func fill(_ template: String, _ values: [String: String]) -> String {
    var result = ""
    var rest = Substring(template)
    while let open = rest.firstRange(of: "{{"), let close = rest[open.upperBound...].firstRange(of: "}}"),
      let value = values[String(rest[open.upperBound..<close.lowerBound])]
    {
      result += rest[..<open.lowerBound] + value
      rest = rest[close.upperBound...]
    }
    return result + rest
  }
}
