import BackendSupport
import Glibc
import PluginAPI
import Synchronization

/// What a life-cycle function reported, one line for each diagnostic: `/key: sentence`.
public struct Refused: Error, CustomStringConvertible {
  public var code: bp_code
  public var lines: [String]
  public var description: String { lines.joined(separator: "\n") }
}

/// One instance of a backend behind the boundary's own tables, as a kernel would hold it.
public final class TestBackend: @unchecked Sendable {
  // @unchecked: the tables are constants that live until `deinit`; data functions may be called from any thread.
  public let plugin: UnsafePointer<bp_plugin>
  public let table: UnsafePointer<bp_backend>
  private let instance: bp_instance
  private var isStarted = false
  /// Goes with every call that is made from now on; lives as long as they do.
  public var header: UnsafePointer<bp_call>?

  public init<P: DirectBackend>(
    _ type: P.Type, _ configuration: String = "{}", stateDirectory: String = "", purpose: UInt32 = BP_PURPOSE_SERVE
  ) throws {
    instance = registerInstance()
    plugin = P.create(hostTable, instance, nil)!
    let id: StaticString = "backplane.backend/1"
    table = plugin.pointee.extension(
      plugin.pointee.`self`, bp_view(data: id.utf8Start, size: UInt64(id.utf8CodeUnitCount))
    )!.assumingMemoryBound(to: bp_backend.self)
    // When this throws, deinit destroys the instance all the same.
    try report { report in
      configuration.withView { json in
        stateDirectory.withView { directory in
          "primary".withView { slot in
            var value = bp_configuration(
              size: .size(of: bp_configuration.self), purpose: purpose, slot: slot, json: json,
              state_directory: directory)
            return plugin.pointee.configure(plugin.pointee.`self`, &value, report)
          }
        }
      }
    }
  }

  /// Made, configured and started.
  public static func started<P: DirectBackend>(
    _ type: P.Type, _ configuration: String = "{}", stateDirectory: String = ""
  ) throws -> TestBackend {
    let backend = try TestBackend(type, configuration, stateDirectory: stateDirectory)
    try backend.start()
    return backend
  }

  private func report(_ body: (UnsafePointer<bp_report>) -> bp_code) throws {
    var lines: [String] = []
    let code = withUnsafeMutablePointer(to: &lines) { pointer in
      var report = bp_report(
        context: pointer,
        add: { context, diagnostic in
          let lines = context!.assumingMemoryBound(to: [String].self)
          let pointer = diagnostic!.pointee.pointer.text
          lines.pointee.append((pointer.isEmpty ? "" : "\(pointer): ") + diagnostic!.pointee.message.text)
        })
      return body(&report)
    }
    if code != BP_OK { throw Refused(code: code, lines: lines) }
  }

  /// `withinMs`: the host's limit; nil: none.
  public func start(withinMs: UInt64? = nil) throws {
    let deadlineNs = withinMs.map { monotonicNs() + $0 * 1_000_000 } ?? 0
    try report { plugin.pointee.start(plugin.pointee.`self`, deadlineNs, $0) }
    isStarted = true
  }

  /// Quiesces and stops.
  public func stop() throws {
    guard isStarted else { return }
    isStarted = false
    try report { plugin.pointee.quiesce(plugin.pointee.`self`, .max, $0) }
    try report { plugin.pointee.stop(plugin.pointee.`self`, .max, $0) }
  }

  public func selfTest(_ scratchDirectory: String) throws {
    let id: StaticString = "backplane.self_test/1"
    let test = plugin.pointee.extension(
      plugin.pointee.`self`, bp_view(data: id.utf8Start, size: UInt64(id.utf8CodeUnitCount))
    )!.assumingMemoryBound(to: bp_self_test.self)
    try report { report in
      scratchDirectory.withView { test.pointee.run(plugin.pointee.`self`, $0, .max, report) }
    }
  }

  /// Stops without waiting for what is open.
  public func stopNow() throws {
    guard isStarted else { return }
    isStarted = false
    try report { plugin.pointee.stop(plugin.pointee.`self`, .max, $0) }
  }

  deinit {
    try? stop()
    plugin.pointee.destroy(plugin.pointee.`self`)
  }

  /// Everything the instance has said about its health.
  public var health: [(state: UInt32, message: String)] { healthReports(instance).map { (state: $0.0, message: $0.1) } }

  // MARK: Calls

  /// Submits units in one call; each is answered on its own.
  public func submit(_ units: [LocalUnit]) -> [PendingCall] {
    let calls = units.map { _ in PendingCall(.write) }
    var raw: [bp_unit] = []
    for (unit, call) in zip(units, calls) {
      raw.append(
        bp_unit(
          size: .size(of: bp_unit.self), ops_count: UInt32(unit.count), ops: unit.rawOps, token: register(call),
          call: header, ts_ms: unit.timestampMs, version: unit.version))
      keepAlive(unit, until: call)
    }
    raw.withUnsafeBufferPointer { table.pointee.apply(plugin.pointee.`self`, $0.baseAddress, UInt32($0.count)) }
    return calls
  }

  // Units live as long as the test's backend: their views must be valid until they are completed.
  private let kept = Mutex<[(LocalUnit, PendingCall)]>([])

  private func keepAlive(_ unit: LocalUnit, until call: PendingCall) {
    kept.withLock { kept in
      if kept.count > 1024 { kept.removeAll { $0.1.completionsCount > 0 } }
      kept.append((unit, call))
    }
  }

  /// The caller gives up.
  public func cancel(_ call: PendingCall) { plugin.pointee.cancel?(plugin.pointee.`self`, token(of: call)) }

  public func apply(_ ops: [Op], timestampMs: UInt64 = 1, version: UInt64 = 1) -> Answer {
    submit([LocalUnit(ops, timestampMs: timestampMs, version: version)])[0].wait()
  }

  public func read(_ uri: String, flags: UInt32 = 0) -> Answer {
    let call = PendingCall(.read)
    uri.withView { view in
      var request = bp_read(
        size: .size(of: bp_read.self), flags: flags, token: register(call), call: header, uri: view)
      table.pointee.read(plugin.pointee.`self`, &request, 1)
      _ = call.wait()
    }
    return call.wait()
  }

  /// Reads in one call; the answers in order.
  public func read(together uris: [String]) -> [Answer] {
    let calls = uris.map { _ in PendingCall(.read) }
    let text = uris.flatMap(\.utf8)
    text.withUnsafeBufferPointer { bytes in
      var start = 0
      let requests = zip(uris, calls).map { uri, call in
        defer { start += uri.utf8.count }
        return bp_read(
          size: .size(of: bp_read.self), flags: 0, token: register(call), call: nil,
          uri: bp_view(BorrowedBytes(rebasing: bytes[start..<(start + uri.utf8.count)])))
      }
      table.pointee.read(plugin.pointee.`self`, requests, UInt32(requests.count))
      // The views are valid until all are completed.
      for call in calls { _ = call.wait() }
    }
    return calls.map { $0.wait() }
  }

  public func page(_ prefix: String, cursor: [UInt8] = [], limit: Int = 100) -> Answer {
    let call = PendingCall(.scan)
    prefix.withView { prefix in
      cursor.withView { cursor in
        var request = bp_scan(
          size: .size(of: bp_scan.self), flags: 0, token: register(call), call: nil, prefix: prefix, cursor: cursor,
          credits: UInt32(limit), reserved: 0)
        table.pointee.scan(plugin.pointee.`self`, &request)
        _ = call.wait()
      }
    }
    return call.wait()
  }

  /// A page from the middle and the total, of a backend that answers queries.
  public func query(_ prefix: String, offset: UInt64 = 0, limit: UInt32 = 100) -> Answer {
    let id: StaticString = "backplane.backend.query/1"
    let table = plugin.pointee.extension(
      plugin.pointee.`self`, bp_view(data: id.utf8Start, size: UInt64(id.utf8CodeUnitCount))
    )!.assumingMemoryBound(to: bp_backend_query.self)
    let call = PendingCall(.query)
    prefix.withView { prefix in
      var request = bp_query(
        size: .size(of: bp_query.self), flags: 0, token: register(call), call: nil, prefix: prefix, offset: offset,
        limit: limit, reserved: 0)
      table.pointee.query(plugin.pointee.`self`, &request)
      _ = call.wait()
    }
    return call.wait()
  }

  /// The URIs of all pages.
  public func scan(_ prefix: String, limit: Int = 100) -> [String] {
    var uris: [String] = []
    var cursor: [UInt8] = []
    repeat {
      let page = page(prefix, cursor: cursor, limit: limit)
      precondition(page.code == BP_OK && page.items.count <= limit, page.message)
      uris += page.items.map(\.uri)
      cursor = page.cursor
    } while !cursor.isEmpty
    return uris
  }
}

/// Threads and open descriptors of this process.
public enum ProcessCounts {
  public static var threads: Int { entries("/proc/self/task") }
  public static var descriptors: Int { entries("/proc/self/fd") }

  private static func entries(_ path: String) -> Int {
    guard let directory = opendir(path) else { return -1 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return count
  }
}
