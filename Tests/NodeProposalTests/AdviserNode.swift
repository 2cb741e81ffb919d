import Foundation
import NodeTesting

/// A node with the service of Tests/Toys/adviser.c, which proposes what a test tells it.
final class AdviserNode {
  let node: NodeProcess
  let folder: TemporaryFolder

  /// What a proposal came to.
  struct Answer: CustomStringConvertible {
    let code: Int
    let isRetryable: Bool
    let receipt: Int
    let generation: Int
    let message: String
    let detail: TestReceipt?
    let description: String
  }

  /// Codes of core.h.
  static let taken = 0
  static let invalid = 3
  static let forbidden = 7
  static let unavailable = 14
  static let rejected = 19
  static let losesState = 1

  private let slots: String
  private let adviser: String
  private let settings: String

  /// - Parameters:
  ///   - slots: YAML of the node's slots beside the adviser and HTTP, indented by two.
  ///   - adviser: keys of the adviser's slot, as in a YAML flow mapping.
  ///   - settings: YAML before `slots:`.
  ///   - environment: of the node, besides the usual.
  ///   - prepare: called with the folder before the node starts; `plugins.d` in it exists.
  init(
    slots: String = AdviserNode.memory, adviser: String = "may_propose: true", settings: String = "",
    environment: [String: String] = [:], prepare: (TemporaryFolder) throws -> Void = { _ in }
  ) throws {
    folder = try TemporaryFolder()
    (self.slots, self.adviser, self.settings) = (slots, adviser, settings)
    let plugins = folder.path + "/plugins.d"
    try FileManager.default.createDirectory(atPath: plugins, withIntermediateDirectories: true)
    try PluginFile.drop(try AdviserNode.build("1.0.0", in: folder), into: plugins, as: "adviser.so")
    try prepare(folder)
    node = try NodeProcess(
      folder: folder, environment: environment, configuration: AdviserNode.yaml(slots, adviser, settings))
  }

  private static let reload =
    "reload: {watch: false, settle_ms: 50, start_timeout_ms: 3000, drain_soft_ms: 3000, probation_ms: 0}"
  static let memory = "  main: {kind: backend, url: \"memory://\"}"

  static func yaml(_ slots: String, _ adviser: String?, _ settings: String) -> String {
    """
    \(settings.contains("reload:") ? "" : AdviserNode.reload)
    \(settings)
    slots:
    \(slots)
      http: {}
    \(adviser.map { "  adviser: {kind: service, plugin: org.example.adviser, \($0)}" } ?? "")
    """
  }

  static func build(_ version: String, in folder: TemporaryFolder) throws -> String {
    try CPlugin.build(
      "\(SourceTree.root)/Tests/Toys/adviser.c",
      manifest: """
        {"id": "org.example.adviser", "version": "\(version)", "kinds": ["service"],
         "abi": {"major": 0, "minor": 1}, "runtime": "c", "isolation": "any"}
        """, definitions: ["ADVISER_VERSION=\"\(version)\""], in: folder)
  }

  /// Another file of configuration; nil as `adviser`: without its slot.
  func configure(slots: String? = nil, adviser: String?, settings: String? = nil) throws {
    try folder.write(
      AdviserNode.yaml(slots ?? self.slots, adviser, settings ?? self.settings), to: "backplane.yaml")
  }

  /// The node once more, after its end.
  func startAgain() throws -> NodeProcess {
    try NodeProcess(folder: folder, configuration: AdviserNode.yaml(slots, adviser, settings))
  }

  // MARK: Proposals

  func directory(of slot: String) -> String { "\(folder.path)/data/slots/\(slot)" }

  /// Has the service propose, and does not wait.
  func begin(_ name: String, _ json: String, flags: Int = 0, by slot: String = "adviser") throws {
    // Written under another name first: the service takes what ends in .propose.
    let file = "\(directory(of: slot))/\(name)"
    try FileManager.default.createDirectory(atPath: directory(of: slot), withIntermediateDirectories: true)
    try Data("\(flags)\n\(json)".utf8).write(to: URL(fileURLWithPath: file + ".written"))
    try FileManager.default.moveItem(atPath: file + ".written", toPath: file + ".propose")
  }

  /// Waits for the answer.
  func answer(_ name: String, by slot: String = "adviser") throws -> Answer {
    let file = "\(directory(of: slot))/\(name).answer"
    guard Polling.until(seconds: 60, { FileManager.default.fileExists(atPath: file) }) else {
      throw NodeProcess.Failed(description: "the proposal got no answer\n\(node.log)")
    }
    let text = try String(contentsOfFile: file, encoding: .utf8)
    let lines = text.split(separator: "\n", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
    let numbers = lines[0].split(separator: " ").map { Int($0) ?? -1 }
    let receipt = try? JSONSerialization.jsonObject(with: Data(lines[2].utf8)) as? [String: Any]
    return Answer(
      code: numbers[0], isRetryable: numbers[1] != 0, receipt: numbers[2], generation: numbers[3], message: lines[1],
      detail: receipt.map(TestReceipt.init), description: text)
  }

  func propose(_ json: String, flags: Int = 0, by slot: String = "adviser") throws -> Answer {
    let name = UUID().uuidString
    try begin(name, json, flags: flags, by: slot)
    return try answer(name, by: slot)
  }

  // MARK: What the node says

  func status(of slot: String) throws -> [String: Any]? {
    let slots = try node.ask(["command": "status"])["slots"] as? [[String: Any]]
    return slots?.first { $0["name"] as? String == slot }
  }

  /// The names of the slots of a kind, in their order.
  func slots(of kind: String) throws -> [String] {
    let slots = try node.ask(["command": "status"])["slots"] as? [[String: Any]] ?? []
    return slots.filter { $0["kind"] as? String == kind }.compactMap { $0["name"] as? String }
  }

  /// The generation that first published what serves the slot.
  func birth(of slot: String) throws -> Int? { try status(of: slot)?["generation"] as? Int }

  /// What is in place of a slot's proposals.
  func proposing(_ slot: String = "adviser") throws -> [String: Any]? {
    try status(of: slot)?["proposing"] as? [String: Any]
  }
}
