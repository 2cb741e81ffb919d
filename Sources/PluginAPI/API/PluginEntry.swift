/// What a plugin's image exports. Make exactly one, as a global constant of the entry target, and return its pointer:
///
/// ```swift
/// let plugin = PluginEntry(MyBackend.self, id: "org.example.mine", version: "1.0.0") { MyBackend.create($0, $1, $2) }
/// @c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
/// ```
///
/// The closure is there because a C function pointer cannot carry a generic type; it must be written in place. Id,
/// version and kind must agree with manifest.json: the kernel compares them.
public struct PluginEntry: @unchecked Sendable {
  // @unchecked: the memory is written once, before the constant is published, and never freed.
  public let pointer: UnsafePointer<bp_entry>

  public typealias Create =
    @convention(c) (UnsafePointer<bp_host>?, bp_instance, UnsafePointer<bp_report>?) -> UnsafePointer<bp_plugin>?

  public init<P: Backend>(_ type: P.Type, id: StaticString, version: StaticString, create: Create) {
    self.init(kinds: ["backend"], id, version, create)
  }

  public init<P: DirectBackend>(_ type: P.Type, id: StaticString, version: StaticString, create: Create) {
    self.init(kinds: ["backend"], id, version, create)
  }

  public init<P: Schema>(_ type: P.Type, id: StaticString, version: StaticString, create: Create) {
    self.init(kinds: ["schema"], id, version, create)
  }

  public init<P: DirectSchema>(_ type: P.Type, id: StaticString, version: StaticString, create: Create) {
    self.init(kinds: ["schema"], id, version, create)
  }

  public init<P: Transport>(_ type: P.Type, id: StaticString, version: StaticString, create: Create) {
    self.init(kinds: ["transport"], id, version, create)
  }

  public init<P: Service>(_ type: P.Type, id: StaticString, version: StaticString, create: Create) {
    self.init(kinds: ["service"], id, version, create)
  }

  /// For kinds that have no protocol here yet: `create` makes the table itself.
  public init(kinds: [StaticString], _ id: StaticString, _ version: StaticString, _ create: Create) {
    func view(_ text: StaticString) -> bp_view {
      bp_view(data: text.utf8Start, size: UInt64(text.utf8CodeUnitCount))
    }
    let kindViews = UnsafeMutablePointer<bp_view>.allocate(capacity: kinds.count)
    for (index, kind) in kinds.enumerated() { (kindViews + index).initialize(to: view(kind)) }
    let entry = UnsafeMutablePointer<bp_entry>.allocate(capacity: 1)
    entry.initialize(
      to: bp_entry(
        size: .size(of: bp_entry.self), abi_major: BP_ABI_MAJOR, abi_minor: BP_ABI_MINOR,
        kinds_count: UInt32(kinds.count), id: view(id), version: view(version), kinds: kindViews, create: create))
    pointer = UnsafePointer(entry)
  }
}

extension Backend {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    BackendInstance<Self>(HostHandle(table: host!, instance: instance)).intoTable()
  }
}

extension DirectBackend {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    DirectBackendInstance<Self>(HostHandle(table: host!, instance: instance)).intoTable()
  }
}

extension Schema {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    SchemaInstance<Self>(HostHandle(table: host!, instance: instance)).intoTable()
  }
}

extension DirectSchema {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    DirectSchemaInstance<Self>(HostHandle(table: host!, instance: instance)).intoTable()
  }
}

extension Transport {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    TransportInstance<Self>(HostHandle(table: host!, instance: instance)).intoTable()
  }
}

extension Service {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    ServiceInstance<Self>(HostHandle(table: host!, instance: instance)).intoTable()
  }
}

extension Backend where Self: HandsOverState {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    BackendInstance<Self>(HostHandle(table: host!, instance: instance), state: StateSide()).intoTable()
  }
}

extension DirectBackend where Self: HandsOverState {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    DirectBackendInstance<Self>(HostHandle(table: host!, instance: instance), state: StateSide()).intoTable()
  }
}

extension Schema where Self: HandsOverState {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    SchemaInstance<Self>(HostHandle(table: host!, instance: instance), state: StateSide()).intoTable()
  }
}

extension DirectSchema where Self: HandsOverState {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    DirectSchemaInstance<Self>(HostHandle(table: host!, instance: instance), state: StateSide()).intoTable()
  }
}

extension Transport where Self: HandsOverState {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    TransportInstance<Self>(HostHandle(table: host!, instance: instance), state: StateSide()).intoTable()
  }
}

extension Service where Self: HandsOverState {
  /// See `PluginEntry`.
  public static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    ServiceInstance<Self>(HostHandle(table: host!, instance: instance), state: StateSide()).intoTable()
  }
}
