#if SIMULATION
import BackplaneABI

@testable import Kernel

/// What a plugin file of the simulation contains: who it is, and what it does wrong.
final class Content: @unchecked Sendable {
  // @unchecked: as everything of a simulation, of whose threads one runs at a time.
  enum Role: String, CaseIterable {
    case clients, schema, memory, disk
    /// Schemas of programs of their own, which come and go.
    case audit, index, labels

    static let optional: [Role] = [.audit, .index, .labels]

    var kind: SlotConfiguration.Kind {
      switch self {
      case .clients: .transport
      case .schema, .audit, .index, .labels: .schema
      case .memory, .disk: .backend
      }
    }
  }

  enum Trouble: CaseIterable {
    case probeRefuses, createFails, configureRefuses, startFails, startHangs, quiesceHangs, stopHangs, destroyHangs
    case exportFails, exportHangs, importFails, importHangs, importUnreadable, slow, failing, readsOtherFormats
    case asksThenStops
  }

  let number: Int
  let role: Role
  let trouble: Trouble?
  /// How its data functions are called.
  let mode: UInt32
  let format: UInt32
  let formatOldest: UInt32
  let plugin: VerifiedPlugin
  let image: Image

  init(_ number: Int, _ role: Role, _ trouble: Trouble?) {
    self.number = number
    self.role = role
    self.trouble = trouble
    mode = Dice.weighted([(4, BP_MODE_ASYNC), (4, BP_MODE_DIRECT), (1, BP_MODE_BLOCKING)])
    format = trouble == .readsOtherFormats ? 2 : 1
    formatOldest = trouble == .readsOtherFormats && Dice.percent(50) ? 2 : 1
    let manifest = Manifest(
      id: "org.example.\(role.rawValue)", version: "1.\(number).0", kinds: [role.kind.rawValue], schemes: [],
      abi: Manifest.ABI(major: Int(BP_ABI_MAJOR), minor: Int(BP_ABI_MINOR)),
      stateVersion: role == .memory ? Int(format) : nil, isVolatile: role == .memory,
      handover: role == .disk ? .stopThenStart : .overlap, isolation: .any, runtime: "swift",
      configurationSchema: nil, secrets: [], listeners: [], metrics: [], licence: nil, source: nil, warnings: [])
    plugin = VerifiedPlugin(
      manifest: manifest, contentHash: "content-\(number)", stagedPath: "",
      sourcePath: "/plugins/\(role.rawValue).so",
      neededLibraries: [], warnings: [])
    image = Image(plugin, entry: Content.entry)
  }

  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  private nonisolated(unsafe) static let entry: UnsafePointer<bp_entry> = {
    let entry = UnsafeMutablePointer<bp_entry>.allocate(capacity: 1)
    entry.initialize(to: bp_entry())
    entry.pointee.size = UInt32(MemoryLayout<bp_entry>.size)
    entry.pointee.create = { _, handle, _ in SimulatedPlugin.create(handle) }
    return UnsafePointer(entry)
  }()
}

/// What lies in the plugin directory and in the configuration: changed by the operator, seen by a reload.
final class Shelf {
  private(set) var contents: [Content] = []
  /// What is there now, by role.
  private(set) var current: [Content.Role: Content] = [:]
  private var settings: [Content.Role: Int] = [:]
  private(set) var roles: [Content.Role]
  /// Counts changes of the directory and of the configuration.
  private(set) var version = 0
  private var policyIsAny: Bool
  private let style: Style

  init(_ style: Style) {
    self.style = style
    policyIsAny = style.policyIsAny
    roles = [.clients, .schema]
    if style.layout != .disk { roles.append(.memory) }
    if style.layout != .memory { roles.append(.disk) }
    if Dice.percent(30) { roles += Content.Role.optional }
    for role in roles { drop(role, trouble: nil) }
  }

  func content(hash: String) -> Content { contents.first { $0.plugin.contentHash == hash }! }

  @discardableResult
  func drop(_ role: Content.Role, trouble: Content.Trouble?) -> Content {
    version += 1
    let content = Content(contents.count, role, trouble)
    contents.append(content)
    current[role] = content
    Report.trace(
      "dropped \(content.plugin.contentHash) for \(role) \(trouble.map { "(\($0))" } ?? "") mode \(content.mode)")
    return content
  }

  /// A file that was there before, again.
  func dropOld(_ role: Content.Role) {
    version += 1
    let old = Dice.pick(contents.filter { $0.role == role })
    current[role] = old
    Report.trace("dropped \(old.plugin.contentHash) again for \(role)")
  }

  func reconfigure(_ role: Content.Role) {
    version += 1
    settings[role, default: 0] += 1
    Report.trace("reconfigured \(role)")
  }

  /// A slot comes or goes.
  func toggleSlot() {
    version += 1
    let role = Dice.pick(Content.Role.optional)
    if let index = roles.firstIndex(of: role) { roles.remove(at: index) } else { roles.append(role) }
    if current[role] == nil { drop(role, trouble: nil) }
    Report.trace("the slots are \(roles.map(\.rawValue))")
  }

  func togglePolicy() {
    version += 1
    policyIsAny.toggle()
  }

  func json(_ role: Content.Role) -> String { "{\"setting\":\(settings[role] ?? 0)}" }

  func configuration() -> LoadedConfiguration {
    let slots = roles.enumerated().map { index, role in
      SlotConfiguration(
        name: role.rawValue, kind: role.kind, plugin: "org.example.\(role.rawValue)", pluginPath: nil, scheme: nil,
        order: index, json: json(role), redactedJSON: json(role), origins: [:])
    }
    let node = NodeConfiguration.simulated(
      style, slots: slots, policy: style.layout == .both ? (policyIsAny ? .any : .all) : policyIsAny ? .any : .all)
    return LoadedConfiguration(node: node, values: [], warnings: [], files: [], watchedDirectories: [])
  }

  func catalog() -> PluginCatalog {
    var catalog = PluginCatalog()
    catalog.directories = ["/plugins"]
    catalog.plugins = current.sorted { $0.key.rawValue < $1.key.rawValue }.map(\.value.plugin)
    return catalog
  }
}
#endif
