import BackplaneABI
import Glibc
import Synchronization

/// What a call to a plugin in a child process costs: the kernel's real path - token, proxy, wire, completion - to a
/// backend that does nothing.
@_spi(Benchmark)
public final class IsolationBenchmark {
  public enum Call: Sendable {
    /// A read whose record has so many bytes.
    case read(Int)
    /// A unit of one put of so many bytes.
    case apply(Int)
  }

  public struct Figures: Sendable {
    public var p50Ns: UInt64
    public var p99Ns: UInt64
    public var perSecond: Double
  }

  public struct Failure: Error {
    public let sentence: String
  }

  private let kernel: KernelContext
  private let instance: Instance
  private let build: SlotBuild

  /// - Parameters:
  ///   - plugin: the plugin's file; it must be trusted by `Verify`, as a staged one.
  ///   - hostExecutable: `backplane-host`.
  public init(plugin path: String, hostExecutable: String) throws {
    kernel = KernelContext(
      log: KernelLog(NodeConfiguration.Log(level: .error, format: .text)), repairs: RepairRegistry(directory: ""))
    kernel.isolation.withLock { settings in
      settings.hostExecutable = hostExecutable
      // What is measured is a restart, not the pause before it.
      settings.crashesMax = 1000
      settings.restartDelayMsMax = 0
    }
    var slot = SlotConfiguration(
      name: "echo", kind: .backend, plugin: nil, pluginPath: nil, scheme: nil, order: 0, json: "{}",
      redactedJSON: "{}", origins: [:])
    slot.isolation = .process
    let verified: VerifiedPlugin
    do throws(Refusal) { verified = try Verify.ofStaged(path: path, sourcePath: path) } catch {
      throw Failure(sentence: error.sentence)
    }
    build = SlotBuild(slot, verified, replacing: nil)
    build.image = Image(verified, entry: ProxyTables.entry)
    do throws(Refusal) { try build.start(kernel, stateDirectory: "", timeoutMs: 10_000) } catch {
      throw Failure(sentence: error.sentence)
    }
    instance = build.instance!
  }

  /// Ends the child.
  public func shutDown() {
    _ = LifeCycle.retire(instance, quiesceMs: 1000, stopMs: 1000)
    kernel.shutDown()
  }

  /// One call after the other, `window` at a time: each completion submits the next, as the kernel's own callers do that
  /// run on completions.
  public func run(_ call: Call, window: Int, seconds: Double) -> Figures {
    let run = Run(instance, call, seconds: seconds)
    let calls = (0..<window).map { _ in OneCall(run) }
    for call in calls { call.submit() }
    for call in calls { _ = call.ended.get() }
    return run.figures()
  }

  /// From the end of a child to the first call that its successor answers, in milliseconds, `count` times.
  public func restarts(_ count: Int) -> [Double] {
    (0..<count).map { _ in
      let beganNs = Clock.monotonicNs()
      instance.proxy?.kill("it is measured")
      var hasFailed = false
      while true {
        let call = OneCall(Run(instance, .read(10), seconds: 0))
        call.submit()
        _ = call.ended.get()
        if call.lastCode != BP_OK { hasFailed = true } else if hasFailed { break }
        usleep(100)
      }
      return Double(Clock.monotonicNs() - beganNs) / 1e6
    }
  }

  /// What the calls of one measurement share.
  private final class Run: @unchecked Sendable {
    // @unchecked: completions come on one thread, the link's reader; `figures` is asked when all have ended.
    let instance: Instance
    let isRead: Bool
    let uri: UnsafeMutableBufferPointer<UInt8>
    let data: UnsafeMutableBufferPointer<UInt8>
    let warmUntilNs: UInt64
    let untilNs: UInt64
    var samples: [UInt32] = []
    var answered = 0
    var lastNs: UInt64 = 0

    init(_ instance: Instance, _ call: Call, seconds: Double) {
      self.instance = instance
      let size: Int
      switch call {
      case .read(let bytes): (isRead, size) = (true, bytes)
      case .apply(let bytes): (isRead, size) = (false, bytes)
      }
      // As long as a record's URI usually is.
      let text = "mutable://open/bench/a-record-of-ordinary-length/\(size)"
      uri = .allocate(capacity: text.utf8.count)
      _ = uri.initialize(from: text.utf8)
      data = .allocate(capacity: isRead ? 1 : size)
      data.initialize(repeating: 0x61)
      warmUntilNs = Clock.monotonicNs() + (seconds > 0 ? 200_000_000 : 0)
      untilNs = warmUntilNs + UInt64(seconds * 1e9)
      samples.reserveCapacity(seconds > 0 ? 8_000_000 : 1)
    }

    deinit {
      uri.deallocate()
      data.deallocate()
    }

    func figures() -> Figures {
      let sorted = samples.sorted()
      guard !sorted.isEmpty else { return Figures(p50Ns: 0, p99Ns: 0, perSecond: 0) }
      return Figures(
        p50Ns: UInt64(sorted[sorted.count / 2]), p99Ns: UInt64(sorted[sorted.count * 99 / 100]),
        perSecond: Double(answered) / (Double(lastNs - warmUntilNs) / 1e9))
    }
  }

  /// A call that is made again and again.
  private final class OneCall: @unchecked Sendable {
    // @unchecked: one of submit and completed runs at a time.
    let run: Run
    let ended = Promise<Bool>()
    private(set) var lastCode = BP_OK
    private let header = UnsafeMutablePointer<bp_call>.allocate(capacity: 1)
    private let op = UnsafeMutablePointer<bp_op>.allocate(capacity: 1)
    private var beganNs: UInt64 = 0

    init(_ run: Run) {
      self.run = run
      header.initialize(to: bp_call())
      header.pointee.size = UInt32(MemoryLayout<bp_call>.size)
      op.initialize(to: bp_op())
      op.pointee.size = UInt32(MemoryLayout<bp_op>.size)
      op.pointee.uri = bp_view(UnsafeBufferPointer(run.uri))
      op.pointee.data = bp_view(UnsafeBufferPointer(run.data))
    }

    deinit {
      header.deallocate()
      op.deallocate()
    }

    func submit() {
      beganNs = Clock.monotonicNs()
      let instance = run.instance
      let token = CallSlab.shared.open(
        instance, run.isRead ? .read : .apply, context: Unmanaged.passRetained(self).toOpaque(),
        handler: { context, result in
          Unmanaged<OneCall>.fromOpaque(context!).takeRetainedValue().completed(result!)
        }, startNs: beganNs)
      let backend = instance.backend!
      if run.isRead {
        var read = bp_read(
          size: UInt32(MemoryLayout<bp_read>.size), flags: 0, token: token, call: header,
          uri: bp_view(UnsafeBufferPointer(run.uri)))
        backend.pointee.read(instance.pointer, &read, 1)
      } else {
        var unit = bp_unit(
          size: UInt32(MemoryLayout<bp_unit>.size), ops_count: 1, ops: op, token: token, call: header, ts_ms: 1,
          version: 1)
        backend.pointee.apply(instance.pointer, &unit, 1)
      }
    }

    private func completed(_ result: UnsafePointer<bp_result>) {
      lastCode = result.pointee.code
      let now = Clock.monotonicNs()
      if now >= run.warmUntilNs {
        run.answered += 1
        run.lastNs = now
        if run.samples.count < 8_000_000 { run.samples.append(UInt32(clamping: now - beganNs)) }
      }
      guard now < run.untilNs, lastCode == BP_OK else {
        ended.set(true)
        return
      }
      submit()
    }
  }
}
