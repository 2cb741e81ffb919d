import Foundation
import NodeTesting
import Testing

/// A plugin's source folder, outside the package tree.
struct PluginProject {
  enum Language: String, CaseIterable { case swift, c, rust }

  let language: Language
  let slug: String
  let path: String

  /// A copy of one of Examples.
  init(example name: String, _ language: Language, slug: String) throws {
    self.language = language
    self.slug = slug
    path = "\(Workshop.path)/\(name)"
    try? FileManager.default.removeItem(atPath: path)
    try FileManager.default.copyItem(atPath: "\(Workshop.source)/Examples/\(name)", toPath: path)
    // What an author may have built in the tree.
    for left in [".build", "\(slug).so"] { try? FileManager.default.removeItem(atPath: "\(path)/\(left)") }
  }

  /// What `plugin new` writes.
  init(new kind: String, _ language: Language, name: String) throws {
    self.language = language
    slug = name
    path = "\(Workshop.path)/\(name)"
    let arguments = ["plugin", "new", "--kind", kind, "--language", language.rawValue, name]
    let (output, errors, status) = try Workshop.backplane(arguments, in: Workshop.path)
    try #require(status == 0, "plugin new: \(output)\(errors)")
  }

  /// Builds it as its README says, in debug for Swift; the library's path.
  func build() throws -> String {
    switch language {
    case .swift:
      try Workshop.run("swift", ["build"] + Workshop.scratchArguments + ["--product", slug], in: path)
      return "\(Workshop.scratch)/debug/lib\(slug).so"
    case .c:
      try Workshop.run("make", [], in: path)
    case .rust:
      try Workshop.run("sh", ["build.sh"], in: path)
    }
    return "\(path)/\(slug).so"
  }

  func runTests() throws {
    try Workshop.run("swift", ["test"] + Workshop.scratchArguments, in: path)
  }

  /// Every file, with its text.
  func files() throws -> [String: String] { try PluginProject.files(path) }

  static func files(_ path: String) throws -> [String: String] {
    var files: [String: String] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
      var isFolder: ObjCBool = false
      _ = FileManager.default.fileExists(atPath: "\(path)/\(name)", isDirectory: &isFolder)
      guard !isFolder.boolValue, !name.hasPrefix(".build/"), !name.hasSuffix(".so"), name != "Package.resolved" else {
        continue
      }
      files[name] = try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8)
    }
    return files
  }

  /// Replaces `old` wherever it stands, in every file that has it; it must stand somewhere.
  func edit(_ old: String, _ new: String) throws {
    var isFound = false
    for (name, text) in try files() where text.contains(old) {
      isFound = true
      try Data(text.replacing(old, with: new).utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
    }
    try #require(isFound, "\(old) stands in no file of \(path)")
  }
}

extension NodeProcess {
  /// Writes a record over HTTP; the status and what the answer says.
  func receive(_ uri: String, _ json: String) throws -> (status: Int, text: String) {
    let answer = try HTTPConnection(port: port).post("/api/v1/receive", #"{"tx":["\#(uri)",\#(json)]}"#)
    return (answer.status, answer.text)
  }

  /// A record's data over HTTP; nil for a 404.
  func read(_ path: String) throws -> String? {
    let answer = try HTTPConnection(port: port).get("/api/v1/read/\(path)")
    guard answer.status == 200 else { return nil }
    return (answer.json as? [String: Any])?["data"] as? String
  }

  /// Reloads and gives the change of one slot: "added 1.0.0", "replaced 1.0.0 by 2.0.0", "removed"; else the receipt.
  func change(of slot: String, _ arguments: [String] = []) throws -> String {
    let receipt = try reload(arguments)
    let changes = (receipt["changes"] as? [[String: Any]] ?? []).filter { $0["slot"] as? String == slot }
    guard changes.count == 1, let action = changes[0]["action"] as? String else { return "no change: \(receipt)" }
    let version = changes[0]["version"] as? String ?? ""
    let previous = changes[0]["previous_version"] as? String ?? ""
    switch action {
    case "replaced": return "replaced \(previous) by \(version)"
    case "added": return "added \(version)"
    default: return action
    }
  }

  /// The refusals of a reload, as code and sentence.
  func refusals(_ arguments: [String] = []) throws -> [(code: String, message: String)] {
    (try reload(arguments)["refusals"] as? [[String: Any]] ?? []).map {
      ($0["code"] as? String ?? "", $0["message"] as? String ?? "")
    }
  }

  /// The slots of `backplane status`.
  func slots() throws -> [String] {
    let (output, _, _) = try command(["status", "--json"])
    let status = try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]
    return (status?["slots"] as? [[String: Any]] ?? []).compactMap { $0["name"] as? String }
  }
}
