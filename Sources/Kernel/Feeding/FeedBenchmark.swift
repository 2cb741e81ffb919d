import BackplaneABI
import Glibc
import Synchronization
import SystemShims

/// What the feed costs: writes through the node's real path, to a schema that accepts everything and a backend that does
/// nothing, with as many subscriptions as wanted.
@_spi(Benchmark)
public final class FeedBenchmark {
  private let kernel: KernelContext
  private let caller: Instance
  private let instances: [Instance]
  private let delivered = Delivered()

  /// Items that came to subscriptions; the context of all of them.
  private final class Delivered: Sendable {
    let count = Atomic<Int>(0)
  }

  /// - Throws: `Refusal` when the toy's manifest does not parse, which would be a defect of this file.
  public init() throws {
    let log = KernelLog(NodeConfiguration.Log(level: .error, format: .text))
    kernel = KernelContext(log: log, repairs: RepairRegistry(directory: ""))
    let kernel = kernel
    instances = try [SlotConfiguration.Kind.transport, .schema, .backend].map { kind in
      let made = try CallBenchmark.instance(kind, kernel, entry: FeedToy.entry)
      _ = made.bindKinds()
      made.state = .serving
      return made
    }
    caller = instances[0]
    kernel.ring.publish(
      Generation(
        number: 1, slots: Array(instances[1...]),
        programs: [.init(key: Array("mutable://open".utf8), schema: instances[1], flags: 0)], fallback: nil,
        writePolicy: .any))
  }

  deinit {
    kernel.feed.close("the benchmark has ended")
    for instance in instances { InstanceRegistry.shared.withdraw(instance) }
    kernel.shutDown()
  }

  /// The feed keeps `recordsMax` writes.
  public func keep(recordsMax: Int) { kernel.feed.apply(FeedSettings(recordsMax: recordsMax)) }

  /// Subscribes once more.
  public func subscribe(_ prefix: String, credits: UInt32) {
    var request = bp_subscribe()
    request.size = UInt32(MemoryLayout<bp_subscribe>.size)
    request.credits = credits
    let completion = bp_completion(
      context: Unmanaged.passUnretained(delivered).toOpaque(), complete: { _, _ in },
      chunk: { context, _ in
        let delivered = Unmanaged<Delivered>.fromOpaque(context!).takeUnretainedValue()
        delivered.count.add(1, ordering: .relaxed)
      })
    var prefix = prefix
    prefix.withUTF8 {
      request.prefix = bp_view($0)
      _ = FeedTable.pointer.pointee.subscribe(caller.handle, nil, &request, completion)
    }
  }

  public var itemsCount: Int { delivered.count.load(ordering: .acquiring) }

  /// Writes `count` records, one after the other, under `mutable://open/bench/0` to `/width-1`. The instructions that
  /// took on this thread, where the system tells.
  public func write(_ count: Int, width: Int) -> UInt64? {
    let uris = (0..<width).map { Array("mutable://open/bench/\($0)".utf8) }
    let completion = bp_completion(context: nil, complete: { _, _ in }, chunk: nil)
    let counter = bp_shim_instruction_counter()
    defer { if counter >= 0 { close(counter) } }
    let before = FeedBenchmark.read(counter)
    for index in 0..<count {
      // A thread that was interrupted is no slow plugin.
      instances[1].directness.declare(.judge, BP_MODE_DIRECT)
      instances[2].directness.declare(.apply, BP_MODE_DIRECT)
      uris[index % width].withUnsafeBufferPointer { uri in
        var request = bp_receive(
          size: UInt32(MemoryLayout<bp_receive>.size), content: BP_CONTENT_BYTES, uri: bp_view(uri),
          data: FeedToy.data)
        _ = NodeTable.pointer.pointee.receive(caller.handle, nil, &request, completion)
      }
    }
    guard let before, let after = FeedBenchmark.read(counter) else { return nil }
    return after - before
  }

  private static func read(_ counter: Int32) -> UInt64? {
    var value: UInt64 = 0
    guard counter >= 0, Glibc.read(counter, &value, 8) == 8 else { return nil }
    return value
  }
}

/// A schema that accepts everything, a backend that does nothing and a transport that is never called, in one.
private enum FeedToy {
  private struct Toy {
    let host: UnsafePointer<bp_host>
    let instance: bp_instance
  }

  /// 200 bytes that nobody frees. nonisolated(unsafe): as below.
  nonisolated(unsafe) static let data: bp_buffer = {
    let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: 200)
    bytes.initialize(repeating: UInt8(ascii: "x"), count: 200)
    return bp_buffer(data: UnsafePointer(bytes), size: 200, owner: nil, release: nil)
  }()

  private static func constant<T>(_ value: T) -> UnsafeRawPointer {
    let pointer = UnsafeMutablePointer<T>.allocate(capacity: 1)
    pointer.initialize(to: value)
    return UnsafeRawPointer(pointer)
  }

  // nonisolated(unsafe): written once by their initialisers, only read afterwards, never freed.
  nonisolated(unsafe) private static let schema = constant(
    bp_schema(
      size: UInt32(MemoryLayout<bp_schema>.size), flags: 0, judge_mode: BP_MODE_DIRECT, reserved: 0,
      programs: { _, _, _ in }, judge: { FeedToy.judge($0, $2!.pointee, $3) }, canonical_uri: nil))
  nonisolated(unsafe) private static let backend: UnsafeRawPointer = {
    var table = bp_backend()
    table.size = UInt32(MemoryLayout<bp_backend>.size)
    table.flags = BP_BACKEND_ATOMIC
    table.apply = { FeedToy.apply($0, $1!, Int($2)) }
    (table.apply_mode, table.read_mode, table.scan_mode) = (BP_MODE_DIRECT, BP_MODE_DIRECT, BP_MODE_DIRECT)
    return constant(table)
  }()
  nonisolated(unsafe) private static let transport = constant(
    bp_transport(size: UInt32(MemoryLayout<bp_transport>.size), flags: 0, connections: { _ in 0 }))

  /// Never freed, as a plugin's entry is not.
  static var entry: UnsafePointer<bp_entry> {
    var entry = bp_entry()
    entry.create = { host, instance, _ in
      let toy = UnsafeMutablePointer<Toy>.allocate(capacity: 1)
      toy.initialize(to: Toy(host: host!, instance: instance))
      let plugin = UnsafeMutablePointer<bp_plugin>.allocate(capacity: 1)
      plugin.initialize(to: bp_plugin())
      plugin.pointee.size = UInt32(MemoryLayout<bp_plugin>.size)
      // `.self` in Swift is the struct itself; the field of that name is written by its place.
      UnsafeMutableRawPointer(plugin).storeBytes(
        of: UnsafeMutableRawPointer(toy), toByteOffset: 8, as: UnsafeMutableRawPointer.self)
      plugin.pointee.extension = { _, id in
        switch id.text {
        case "backplane.schema/1": FeedToy.schema
        case "backplane.backend/1": FeedToy.backend
        case "backplane.transport/1": FeedToy.transport
        default: nil
        }
      }
      return UnsafePointer(plugin)
    }
    return constant(entry).assumingMemoryBound(to: bp_entry.self)
  }

  private static func judge(_ context: UnsafeMutableRawPointer?, _ message: bp_message, _ token: bp_token) {
    var op = bp_op()
    op.size = UInt32(MemoryLayout<bp_op>.size)
    op.verb = message.verb
    op.content = message.content
    op.uri = message.uri
    op.data = message.data
    withUnsafePointer(to: &op) { op in
      var verdict = bp_verdict()
      verdict.result.size = UInt32(MemoryLayout<bp_verdict>.size)
      verdict.ops = op
      verdict.ops_count = 1
      complete(context, token, &verdict)
    }
  }

  private static func apply(_ context: UnsafeMutableRawPointer?, _ units: UnsafePointer<bp_unit>, _ count: Int) {
    var result = bp_write_result()
    result.result.size = UInt32(MemoryLayout<bp_write_result>.size)
    result.durability = BP_DURABILITY_MEMORY
    for index in 0..<count { complete(context, units[index].token, &result) }
  }

  @inline(__always)
  private static func complete<T>(_ context: UnsafeMutableRawPointer?, _ token: bp_token, _ result: inout T) {
    let toy = context!.assumingMemoryBound(to: Toy.self).pointee
    withUnsafePointer(to: &result) {
      toy.host.pointee.complete(
        toy.instance, token, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
    }
  }
}
