import Foundation
import Synchronization

/// The backend of Tests/Toys/ledger.c. Scheme: `ledger`.
public struct Ledger: Sendable, Hashable {
  public var version: String
  /// The format of its state; 0: it hands nothing over.
  public var format: Int
  public var oldestFormat: Int
  public var handover: String
  public var isVolatile: Bool

  public static let file = "ledger.so"

  public init(
    version: String = "1.0.0", format: Int = 1, oldestFormat: Int = 1, handover: String = "overlap",
    isVolatile: Bool = true
  ) {
    self.version = version
    self.format = format
    self.oldestFormat = oldestFormat
    self.handover = handover
    self.isVolatile = isVolatile
  }

  /// Renames it into a plugin directory.
  public func drop(into directory: String) throws {
    try PluginFile.drop(try built(), into: directory, as: Ledger.file)
  }

  /// The compiled file; compiled once in this process.
  public func built() throws -> String {
    try Ledger.builds.withLock { builds in
      if let file = builds.files[self] { return file }
      let folder = try builds.folder ?? TemporaryFolder()
      builds.folder = folder
      let state = format > 0 ? "\"state_version\": \(format)," : ""
      let file = try CPlugin.build(
        "\(SourceTree.root)/Tests/Toys/ledger.c",
        manifest: """
          {"id": "org.example.ledger", "version": "\(version)", "kinds": ["backend"], "schemes": ["ledger"],
           "abi": {"major": 0, "minor": 1}, "runtime": "c", \(state)
           "handover": "\(handover)", "volatile": \(isVolatile)}
          """,
        definitions: ["LEDGER_VERSION=\"\(version)\"", "LEDGER_FORMAT=\(format)", "LEDGER_OLDEST=\(oldestFormat)"],
        in: folder)
      builds.files[self] = file
      return file
    }
  }

  private static let builds = Mutex<(folder: TemporaryFolder?, files: [Ledger: String])>((nil, [:]))
}

/// A node with a ledger as its only backend.
public final class LedgerNode {
  public let node: NodeProcess
  public let folder: TemporaryFolder

  /// - Parameters:
  ///   - keys: YAML of further members of the slot, such as `delay_ms: 50`.
  ///   - reload: further members of `reload`, such as `probation_ms: 1000`.
  public init(_ ledger: Ledger = Ledger(), keys: String = "", reload: String = "probation_ms: 0") throws {
    folder = try TemporaryFolder()
    try FileManager.default.createDirectory(atPath: folder.path + "/plugins.d", withIntermediateDirectories: true)
    try ledger.drop(into: folder.path + "/plugins.d")
    node = try NodeProcess(folder: folder, configuration: LedgerNode.yaml(keys, reload))
  }

  private static func yaml(_ keys: String, _ reload: String) -> String {
    """
    reload: {watch: false, settle_ms: 50\(reload.isEmpty ? "" : ", " + reload)}
    slots:
      ledger: {kind: backend, url: "ledger://"\(keys.isEmpty ? "" : ", " + keys)}
    """
  }

  public func configure(keys: String = "", reload: String = "probation_ms: 0") throws {
    try folder.write(LedgerNode.yaml(keys, reload), to: "backplane.yaml")
  }

  public func drop(_ ledger: Ledger) throws { try ledger.drop(into: node.pluginsDirectory) }

  public func reload(losesState: Bool = false) throws -> TestReceipt {
    try node.reloadDirectly(now: ["*"], losesState: losesState)
  }

  public func servingVersion() throws -> String {
    let answer = try node.read("mutable/open/version")
    guard answer.status == 200, let object = answer.json as? [String: Any], let version = object["data"] as? String
    else { throw NodeProcess.Failed(description: "\(answer.status) \(answer.text)") }
    return version
  }
}
