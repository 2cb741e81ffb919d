import BackplaneABI
import Glibc
import SystemShims

/// What a call over the boundary costs: the kernel's real path to a backend that does nothing.
///
/// One generation with one backend, whose tables are C functions as any plugin's are, and one caller. Nothing is loaded
/// and nothing started: what is left is the host's own part of a call.
@_spi(Benchmark)
public final class CallBenchmark {
  /// How much of the way a read goes.
  public enum Path: Sendable {
    /// Lease, submit, complete: the boundary.
    case boundary
    /// `bp_node.read`, as a transport calls it: the caller's admission and the URI's normal form besides.
    case node
  }

  /// A call of a function that does nothing, with and without the mark that every call into a plugin has.
  public enum Attribution: Sendable {
    case off, on
  }

  private let kernel: KernelContext
  private let caller: Instance
  private let backend: Instance
  private let uri: UnsafeMutableBufferPointer<UInt8>

  /// A toy's instance, behind `bp_plugin.self`.
  private struct Toy {
    let host: UnsafePointer<bp_host>
    let instance: bp_instance
    let table: UnsafeMutablePointer<bp_backend>
    var data: (UInt64, UInt64, UInt64) = (0, 0, 0)
  }

  /// - Throws: `Refusal` when the toy's manifest does not parse, which would be a defect of this file.
  public init() throws {
    let log = KernelLog(NodeConfiguration.Log(level: .error, format: .text))
    kernel = KernelContext(log: log, repairs: RepairRegistry(directory: ""))
    caller = try Self.instance(.transport, kernel)
    backend = try Self.instance(.backend, kernel)
    _ = backend.bindKinds()
    caller.state = .serving
    backend.state = .serving
    kernel.ring.publish(
      Generation(number: 1, slots: [backend], programs: [], fallback: nil, writePolicy: .any))
    let text = "mutable://open/bench/record"
    uri = .allocate(capacity: text.utf8.count)
    _ = uri.initialize(from: text.utf8)
  }

  deinit {
    for instance in [caller, backend] { InstanceRegistry.shared.withdraw(instance) }
    kernel.shutDown()
    uri.deallocate()
  }

  /// Reads one record `count` times on the calling thread. Answers how many reads were answered with the record.
  public func run(_ count: Int, _ path: Path) -> Int {
    var answered = 0
    return withUnsafeMutablePointer(to: &answered) { answered in
      let completion = bp_completion(
        context: answered,
        complete: { context, result in
          guard result!.pointee.code == BP_OK else { return }
          context!.assumingMemoryBound(to: Int.self).pointee += 1
        }, chunk: nil)
      switch path {
      case .boundary: throughBoundary(count, completion)
      case .node: throughNode(count, completion)
      }
      return answered.pointee
    }
  }

  private func throughBoundary(_ count: Int, _ completion: bp_completion) {
    let call = Self.call
    let uri = NormalURI(bytes: UnsafeBufferPointer(uri), programLength: "mutable://open".utf8.count)
    for _ in 0..<count {
      stayDirect()
      guard let lease = kernel.ring.acquire() else { return }
      _ = ReadPath.read(caller, call, uri, lease, completion, answered: nil)
      kernel.ring.release(lease)
    }
  }

  private func throughNode(_ count: Int, _ completion: bp_completion) {
    var call = Self.call
    let read = NodeTable.pointer.pointee.read!
    let view = bp_view(UnsafeBufferPointer(uri))
    for _ in 0..<count {
      stayDirect()
      _ = read(caller.handle, &call, view, completion)
    }
  }

  private typealias Nothing = @convention(c) (UnsafeMutableRawPointer?) -> Void

  /// Calls a function that does nothing `count` times. Answers the instructions that took, where the system tells.
  public func runMarks(_ count: Int, _ attribution: Attribution) -> UInt64? {
    // Behind a pointer, as a plugin's functions are, so that nothing is known of it here.
    let function = UnsafeMutablePointer<Nothing>.allocate(capacity: 1)
    function.initialize(to: { _ in })
    defer { function.deallocate() }
    let counter = bp_shim_instruction_counter()
    defer { if counter >= 0 { close(counter) } }
    let before = CallBenchmark.read(counter)
    switch attribution {
    case .off: for _ in 0..<count { function.pointee(UnsafeMutableRawPointer(function)) }
    case .on:
      for index in 0..<count {
        ThreadMark.own.during(.read, backend.handle, generation: 1, startNs: UInt64(truncatingIfNeeded: index)) {
          function.pointee(UnsafeMutableRawPointer(function))
        }
      }
    }
    guard let before, let after = CallBenchmark.read(counter) else { return nil }
    return after - before
  }

  private static func read(_ counter: Int32) -> UInt64? {
    var value: UInt64 = 0
    guard counter >= 0, Glibc.read(counter, &value, 8) == 8 else { return nil }
    return value
  }

  /// On a busy machine the benchmark's thread is interrupted for more than a millisecond now and then, which the kernel
  /// takes for a slow plugin; the rest of the run would then measure worker threads.
  @inline(__always)
  private func stayDirect() { backend.directness.declare(.read, BP_MODE_DIRECT) }

  private static var call: bp_call {
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    return call
  }

  // MARK: The toy

  private static func instance(_ kind: SlotConfiguration.Kind, _ kernel: KernelContext) throws -> Instance {
    try instance(kind, kernel, entry: entry)
  }

  /// A slot with an image of nothing but this entry.
  static func instance(
    _ kind: SlotConfiguration.Kind, _ kernel: KernelContext, entry: UnsafePointer<bp_entry>
  ) throws -> Instance {
    let slot = SlotConfiguration(
      name: kind.rawValue, kind: kind, plugin: nil, pluginPath: nil, scheme: nil, order: 0, json: "{}",
      redactedJSON: "{}", origins: [:])
    let manifest = try Manifest.parse(
      Array(
        #"{"id":"org.backplane.toy","version":"1.0.0","kinds":["\#(kind.rawValue)"],"abi":{"major":\#(BP_ABI_MAJOR),"minor":\#(BP_ABI_MINOR)}}"#
          .utf8), file: "toy")
    let image = Image(
      VerifiedPlugin(
        manifest: manifest, contentHash: "", stagedPath: "", sourcePath: "toy", neededLibraries: [], warnings: []),
      entry: entry)
    let made = InstanceRegistry.shared.register {
      Instance(handle: $0, slot: slot, image: image, kernel: kernel, listeners: [:])
    }
    made!.adopt(made!.image.entry.pointee.create(HostTable.pointer, made!.handle, nil)!)
    return made!
  }

  /// Never freed, as a plugin's entry is not.
  private static var entry: UnsafePointer<bp_entry> {
    let entry = UnsafeMutablePointer<bp_entry>.allocate(capacity: 1)
    entry.initialize(to: bp_entry())
    entry.pointee.create = { host, instance, _ in
      let toy = UnsafeMutablePointer<Toy>.allocate(capacity: 1)
      let table = UnsafeMutablePointer<bp_backend>.allocate(capacity: 1)
      table.initialize(to: bp_backend())
      table.pointee.size = UInt32(MemoryLayout<bp_backend>.size)
      table.pointee.apply_mode = BP_MODE_DIRECT
      table.pointee.read_mode = BP_MODE_DIRECT
      table.pointee.scan_mode = BP_MODE_DIRECT
      table.pointee.read = { CallBenchmark.read($0, $1, $2) }
      toy.initialize(to: Toy(host: host!, instance: instance, table: table))
      let plugin = UnsafeMutablePointer<bp_plugin>.allocate(capacity: 1)
      plugin.initialize(to: bp_plugin())
      plugin.pointee.size = UInt32(MemoryLayout<bp_plugin>.size)
      // `.self` in Swift is the struct itself; the field of that name is written by its place.
      UnsafeMutableRawPointer(plugin).storeBytes(
        of: UnsafeMutableRawPointer(toy), toByteOffset: 8, as: UnsafeMutableRawPointer.self)
      plugin.pointee.extension = { toy, _ in UnsafeRawPointer(toy!.assumingMemoryBound(to: Toy.self).pointee.table) }
      return UnsafePointer(plugin)
    }
    return UnsafePointer(entry)
  }

  private static func read(_ context: UnsafeMutableRawPointer?, _ reads: UnsafePointer<bp_read>?, _ count: UInt32) {
    let toy = context!.assumingMemoryBound(to: Toy.self)
    var result = bp_read_result()
    result.result.size = UInt32(MemoryLayout<bp_read_result>.size)
    result.record.size = UInt32(MemoryLayout<bp_record>.size)
    result.record.data = bp_view(
      data: UnsafeRawPointer(toy).assumingMemoryBound(to: UInt8.self), size: 24)
    for index in 0..<Int(count) {
      withUnsafePointer(to: &result) {
        toy.pointee.host.pointee.complete(
          toy.pointee.instance, reads![index].token, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
      }
    }
  }
}
