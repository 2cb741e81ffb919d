import PluginAPI

/// What a Swift toy of a draft kind is made of: the Swift face has no protocol for it yet, so it fills the C tables
/// itself. Subclasses override what they need.
class RawToy {
  let host: HostHandle
  private var table: UnsafeMutablePointer<bp_plugin>?

  required init(_ host: HostHandle) { self.host = host }

  deinit { table?.deallocate() }

  func extensionTable(_ id: bp_view) -> UnsafeRawPointer? { nil }
  func start() {}
  func stop() {}
  func cancel(_ token: bp_token) {}
  func grant(_ token: bp_token, _ credits: UInt32) {}

  static func with<Toy: RawToy, R>(_ pointer: UnsafeMutableRawPointer?, as type: Toy.Type, _ body: (Toy) -> R) -> R {
    body(unsafeDowncast(Unmanaged<RawToy>.fromOpaque(pointer!).takeUnretainedValue(), to: type))
  }

  static func create(
    _ host: UnsafePointer<bp_host>?, _ instance: bp_instance, _ report: UnsafePointer<bp_report>?
  ) -> UnsafePointer<bp_plugin>? {
    let toy = Self(HostHandle(table: host!, instance: instance))
    let table = UnsafeMutablePointer<bp_plugin>.allocate(capacity: 1)
    toy.table = table
    table.initialize(
      to: bp_plugin(
        size: .size(of: bp_plugin.self), reserved: 0, self: Unmanaged<RawToy>.passRetained(toy).toOpaque(),
        configure: { _, _, _ in BP_OK },
        start: { pointer, _, _ in
          RawToy.with(pointer, as: RawToy.self) { $0.start() }
          return BP_OK
        },
        quiesce: { _, _, _ in BP_OK },
        stop: { pointer, _, _ in
          RawToy.with(pointer, as: RawToy.self) { $0.stop() }
          return BP_OK
        },
        destroy: { Unmanaged<RawToy>.fromOpaque($0!).release() },
        cancel: { pointer, token in RawToy.with(pointer, as: RawToy.self) { $0.cancel(token) } },
        grant: { pointer, token, credits in RawToy.with(pointer, as: RawToy.self) { $0.grant(token, credits) } },
        extension: { pointer, id in RawToy.with(pointer, as: RawToy.self) { $0.extensionTable(id) } }))
    return UnsafePointer(table)
  }
}

/// An entry of a kind that PluginEntry has no initialiser for.
struct RawEntry: @unchecked Sendable {
  // @unchecked: written once, before it is shared; never freed.
  let pointer: UnsafePointer<bp_entry>

  init(kind: StaticString, id: StaticString, create: PluginEntry.Create) {
    func view(_ text: StaticString) -> bp_view {
      bp_view(data: text.utf8Start, size: UInt64(text.utf8CodeUnitCount))
    }
    let kinds = UnsafeMutablePointer<bp_view>.allocate(capacity: 1)
    kinds.initialize(to: view(kind))
    let entry = UnsafeMutablePointer<bp_entry>.allocate(capacity: 1)
    entry.initialize(
      to: bp_entry(
        size: .size(of: bp_entry.self), abi_major: BP_ABI_MAJOR, abi_minor: BP_ABI_MINOR, kinds_count: 1, id: view(id),
        version: view("1.0.0"), kinds: kinds, create: create))
    pointer = UnsafePointer(entry)
  }
}

/// A table that is made once and never freed.
struct ConstantTable<T>: @unchecked Sendable {
  // @unchecked: written once, read only.
  let raw: UnsafeRawPointer
  init(_ value: T) {
    let pointer = UnsafeMutablePointer<T>.allocate(capacity: 1)
    pointer.initialize(to: value)
    raw = UnsafeRawPointer(pointer)
  }
}
