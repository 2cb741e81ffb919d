import BackendSupport
import Glibc
import PluginAPI
import Synchronization

/// How a call ended, copied out of the boundary's structs.
public struct Answer: Sendable {
  public struct Item: Sendable, Equatable {
    public var uri: String
    public var timestampMs: UInt64
    public var version: UInt64
    public var sizeBytes: UInt64
    public var content: UInt32

    public init(uri: String, timestampMs: UInt64, version: UInt64, sizeBytes: UInt64, content: UInt32) {
      self.uri = uri
      self.timestampMs = timestampMs
      self.version = version
      self.sizeBytes = sizeBytes
      self.content = content
    }
  }

  public var code: bp_code = BP_OK
  public var message = ""
  public var isRetryable = false
  public var retryAfterMs: UInt32 = 0
  public var durability: UInt32 = 0
  public var absentCount: UInt32 = 0
  public var failedOp: UInt32 = 0
  public var record: Record?
  public var items: [Item] = []
  public var cursor: [UInt8] = []
  /// Of a query.
  public var total: UInt64 = 0
}

/// A call that the host waits for.
public final class PendingCall: Sendable {
  enum Kind: Sendable {
    case write
    case read
    case scan
    case query
  }

  let kind: Kind
  private let answers = Mutex<[Answer]>([])
  // Unsafe: sem_t is made for use from several threads; freed when nobody can know the call any more.
  nonisolated(unsafe) private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  init(_ kind: Kind) {
    self.kind = kind
    sem_init(semaphore, 0, 0)
  }

  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }

  /// How often the call was completed; anything but 1 at the end is a fault of the plugin's.
  public var completionsCount: Int { answers.withLock { $0.count } }

  func complete(_ answer: Answer) {
    answers.withLock { $0.append(answer) }
    sem_post(semaphore)
  }

  public func wait() -> Answer {
    while sem_wait(semaphore) != 0 {}
    sem_post(semaphore)
    return answers.withLock { $0[0] }
  }
}

/// What the one host table of a test process knows.
private struct Registry {
  var calls: [bp_token: PendingCall] = [:]
  var health: [bp_instance: [(UInt32, String)]] = [:]
  var next: UInt64 = 1
}

private let registry = Mutex(Registry())

func register(_ call: PendingCall) -> bp_token {
  registry.withLock { registry in
    // Odd: an even token is the address of a counter (see `CompletionCounter`).
    registry.next += 2
    registry.calls[registry.next] = call
    return registry.next
  }
}

func token(of call: PendingCall) -> bp_token {
  registry.withLock { registry in registry.calls.first { $0.value === call }?.key ?? 0 }
}

func registerInstance() -> bp_instance {
  registry.withLock { registry in
    registry.next += 2
    registry.health[registry.next] = []
    return registry.next
  }
}

func healthReports(_ instance: bp_instance) -> [(UInt32, String)] { registry.withLock { $0.health[instance] ?? [] } }

/// Counts completions and copies nothing, for measuring.
public final class CompletionCounter: Sendable {
  // Unsafe: an Atomic is made for use from several threads; it lives as long as the counter.
  nonisolated(unsafe) private let value = UnsafeMutablePointer<Atomic<Int>>.allocate(capacity: 8)

  public init() { value.initialize(to: Atomic(0)) }
  deinit { value.deallocate() }

  public var token: bp_token { UInt64(UInt(bitPattern: value)) }
  public var count: Int { value.pointee.load(ordering: .acquiring) }
}

private func complete(_ token: bp_token, _ result: UnsafePointer<bp_result>) {
  if token & 1 == 0 {
    let counter = UnsafeMutablePointer<Atomic<Int>>(bitPattern: UInt(token))!
    counter.pointee.add(result.pointee.code == BP_OK ? 1 : 1_000_000_000, ordering: .releasing)
    return
  }
  guard let call = registry.withLock({ $0.calls[token] }) else { fatalError("an unknown token was completed") }
  var answer = Answer()
  answer.code = result.pointee.code
  answer.message = result.pointee.message.text
  answer.isRetryable = result.pointee.flags & BP_RETRYABLE != 0
  answer.retryAfterMs = result.pointee.retry_after_ms
  let raw = UnsafeRawPointer(result)
  switch call.kind {
  case .write:
    let write = raw.assumingMemoryBound(to: bp_write_result.self).pointee
    answer.durability = write.durability
    answer.absentCount = write.absent_count
    answer.failedOp = write.failed_op
  case .read:
    let record = raw.assumingMemoryBound(to: bp_read_result.self).pointee.record
    if answer.code == BP_OK {
      answer.record = Record(
        data: record.data.array, content: Content(rawValue: record.content)!, timestampMs: record.ts_ms,
        version: record.version)
    }
  case .scan:
    let page = raw.assumingMemoryBound(to: bp_scan_result.self).pointee
    if answer.code == BP_OK {
      answer.items = items(page.items, page.items_count)
      answer.cursor = page.cursor.array
    }
  case .query:
    let page = raw.assumingMemoryBound(to: bp_query_result.self).pointee
    if answer.code == BP_OK {
      answer.items = items(page.items, page.items_count)
      answer.total = page.total
    }
  }
  call.complete(answer)
}

private func items(_ first: UnsafePointer<bp_scan_item>?, _ count: UInt32) -> [Answer.Item] {
  UnsafeBufferPointer(start: first, count: Int(count)).map { item in
    Answer.Item(
      uri: item.uri.text, timestampMs: item.ts_ms, version: item.version, sizeBytes: item.size_bytes,
      content: item.content)
  }
}

// One constant for the process. nonisolated(unsafe): written once by its initialiser, then only read.
nonisolated(unsafe) let hostTable: UnsafePointer<bp_host> = {
  let table = UnsafeMutablePointer<bp_host>.allocate(capacity: 1)
  table.initialize(
    to: bp_host(
      size: .size(of: bp_host.self), abi_major: BP_ABI_MAJOR, abi_minor: BP_ABI_MINOR, reserved: 0,
      complete: { _, token, result in complete(token, result!) },
      emit: { _, _, _ in BP_CLOSED },
      cancel: { _, _ in },
      grant: { _, _, _ in BP_CLOSED },
      log: { _, _, _, _, _ in },
      metric: { _, _, handle in
        handle!.pointee = 1
        return BP_OK
      },
      record: { _, _, _ in },
      health: { instance, state, message in
        let text = message.text
        registry.withLock { $0.health[instance]?.append((state, text)) }
      },
      extension: { _, _ in nil }))
  return UnsafePointer(table)
}()
