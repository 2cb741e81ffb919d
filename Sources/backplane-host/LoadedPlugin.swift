import BackplaneABI
import Glibc
import IsolationWire
import SystemShims

/// The plugin's image and instance.
struct LoadedPlugin: @unchecked Sendable {
  // @unchecked: tables of an image that is never unmapped and of an instance that outlives every call.
  private(set) var hostExtensions: Set<String> = []
  private var entry: UnsafePointer<bp_entry>?
  private(set) var plugin: UnsafePointer<bp_plugin>?
  /// `bp_plugin.self`.
  private(set) var pointer: UnsafeMutableRawPointer?
  private(set) var backend: UnsafePointer<bp_backend>?
  private(set) var queries: UnsafePointer<bp_backend_query>?
  private(set) var schema: UnsafePointer<bp_schema>?
  private(set) var transport: UnsafePointer<bp_transport>?
  private(set) var service: UnsafePointer<bp_service>?
  private(set) var state: UnsafePointer<bp_state>?

  private static func refusal(_ code: bp_code, _ message: String) -> LifeCycleAnswer {
    LifeCycleAnswer(
      code: code,
      diagnostics: [LifeCycleAnswer.Diagnostic(severity: BP_SEVERITY_ERROR, pointer: "", message: message)])
  }

  /// Takes on the limits and maps the file.
  mutating func load(_ greeting: Greeting) -> LifeCycleAnswer {
    hostExtensions = Set(greeting.extensions)
    openFoundation(greeting.neededLibraries)
    // RTLD_NODELETE, which Glibc's module does not import with its type.
    guard let handle = dlopen(greeting.stagedPath, RTLD_NOW | RTLD_LOCAL | 0x1000) else {
      let reason = dlerror().map { String(cString: $0) } ?? "no reason given"
      return LoadedPlugin.refusal(BP_INTERNAL, "the system's loader refused the file: \(reason)")
    }
    typealias Entry = @convention(c) () -> UnsafePointer<bp_entry>?
    guard let symbol = dlsym(handle, BP_ENTRY_SYMBOL), let entry = unsafeBitCast(symbol, to: Entry.self)() else {
      return LoadedPlugin.refusal(BP_INTERNAL, "the file has no entry \(BP_ENTRY_SYMBOL)")
    }
    func text(_ view: bp_view) -> String {
      String(decoding: UnsafeBufferPointer(start: view.data, count: Int(view.size)), as: UTF8.self)
    }
    guard entry.pointee.size >= UInt32(MemoryLayout<bp_entry>.size), entry.pointee.abi_major == BP_ABI_MAJOR,
      entry.pointee.abi_minor == BP_ABI_MINOR, text(entry.pointee.id) == greeting.pluginID,
      text(entry.pointee.version) == greeting.pluginVersion, entry.pointee.create != nil
    else { return LoadedPlugin.refusal(BP_INTERNAL, "the file's entry is not what its manifest says") }
    self.entry = entry
    guard bp_shim_limit(greeting.memorySizeBytesMax, greeting.descriptorsMax, greeting.cpuSecondsMax) == 0 else {
      return LoadedPlugin.refusal(
        BP_INTERNAL, "the limits of the slot cannot be set: \(String(cString: strerror(errno)))")
    }
    return LifeCycleAnswer(code: BP_OK)
  }

  /// A plugin elsewhere does not find Foundation by itself, because a run path is not transitive: open ours first, and
  /// its name satisfies the plugin.
  private func openFoundation(_ neededLibraries: [String]) {
    let wanted = neededLibraries.filter { $0.hasPrefix("libFoundation") || $0.hasPrefix("lib_Foundation") }
    guard !wanted.isEmpty, let symbol = dlsym(nil, "swift_retain"), let name = bp_shim_image_of(symbol) else { return }
    let path = String(cString: name)
    let folder = path[..<(path.lastIndex(of: "/") ?? path.startIndex)]
    for library in wanted { _ = dlopen("\(folder)/\(library)", RTLD_NOW | RTLD_LOCAL) }
  }

  mutating func create(
    _ host: UnsafePointer<bp_host>, _ instance: bp_instance, _ report: UnsafePointer<bp_report>
  ) -> bp_code {
    guard let table = entry?.pointee.create(host, instance, report) else { return BP_INTERNAL }
    plugin = table
    // `.self` in Swift is the struct itself; the field of that name is read by its place.
    pointer = UnsafeRawPointer(table).load(fromByteOffset: 8, as: UnsafeMutableRawPointer?.self)
    return BP_OK
  }

  mutating func destroy() -> bp_code {
    plugin?.pointee.destroy(pointer)
    plugin = nil
    backend = nil
    queries = nil
    schema = nil
    transport = nil
    service = nil
    state = nil
    return BP_OK
  }

  /// The kinds' tables and what they say.
  mutating func bindKinds() -> PluginFacts {
    func table<T>(_ id: StaticString, _ type: T.Type) -> UnsafePointer<T>? {
      let view = bp_view(data: id.utf8Start, size: UInt64(id.utf8CodeUnitCount))
      return plugin?.pointee.extension(pointer, view)?.assumingMemoryBound(to: type)
    }
    backend = table("backplane.backend/1", bp_backend.self)
    queries = table("backplane.backend.query/1", bp_backend_query.self)
    schema = table("backplane.schema/1", bp_schema.self)
    transport = table("backplane.transport/1", bp_transport.self)
    service = table("backplane.service/1", bp_service.self)
    state = table("backplane.state/1", bp_state.self)
    var facts = PluginFacts()
    if let backend {
      var about = PluginFacts.Backend()
      about.flags = backend.pointee.flags
      about.durabilityMax = backend.pointee.durability_max
      about.answersQueries = queries != nil
      facts.backend = about
    }
    if let schema {
      var about = PluginFacts.Schema()
      about.flags = schema.pointee.flags
      about.hasCanonicalForm = schema.pointee.canonical_uri != nil
      about.programs = programs(schema)
      facts.schema = about
    }
    facts.isTransport = transport != nil
    if let service {
      var about = PluginFacts.Service()
      about.wantsReady = service.pointee.node_ready != nil
      about.wantsEnding = service.pointee.node_ending != nil
      facts.service = about
    }
    if let state {
      var about = PluginFacts.State()
      about.formatVersion = state.pointee.format_version
      about.formatVersionOldest = state.pointee.format_version_oldest
      facts.state = about
    }
    facts.cancels = plugin?.pointee.cancel != nil
    facts.grants = plugin?.pointee.grant != nil
    return facts
  }

  private func programs(_ schema: UnsafePointer<bp_schema>) -> [PluginFacts.Program] {
    final class List {
      var programs: [PluginFacts.Program] = []
    }
    let list = List()
    schema.pointee.programs(
      pointer, Unmanaged.passUnretained(list).toOpaque(),
      { context, program in
        let key = program!.pointee.key
        Unmanaged<List>.fromOpaque(context!).takeUnretainedValue().programs.append(
          PluginFacts.Program(
            key: Array(UnsafeBufferPointer(start: key.data, count: Int(key.size))), flags: program!.pointee.flags))
      })
    return list.programs
  }
}
