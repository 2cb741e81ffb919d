import BackplaneABI
import SystemShims

/// What the kernel can be doing in a plugin. The numbers lie in files that outlive the process: they are never reused.
enum MarkedCall: UInt8, CaseIterable, Sendable {
  case open = 1
  case create = 2
  case configure = 3
  case start = 4
  case quiesce = 5
  case exportState = 6
  case importState = 7
  case stop = 8
  case destroy = 9
  case apply = 10
  case read = 11
  case scan = 12
  case judge = 13
  case canonicalURI = 14
  case programs = 15
  case cancel = 16
  case complete = 17
  case chunk = 18
  case release = 19
  case `extension` = 20
  case grant = 21
  case query = 22
  case nodeReady = 23
  case nodeEnding = 24

  /// As an operator reads it.
  var name: String {
    switch self {
    case .open: "loading"
    case .create: "create"
    case .configure: "configure"
    case .start: "start"
    case .quiesce: "quiesce"
    case .exportState: "export_state"
    case .importState: "import_state"
    case .stop: "stop"
    case .destroy: "destroy"
    case .apply: "apply"
    case .read: "read"
    case .scan: "scan"
    case .judge: "judge"
    case .canonicalURI: "canonical_uri"
    case .programs: "programs"
    case .cancel: "cancel"
    case .complete: "complete"
    case .chunk: "chunk"
    case .release: "release"
    case .extension: "extension"
    case .grant: "grant"
    case .query: "query"
    case .nodeReady: "node_ready"
    case .nodeEnding: "node_ending"
    }
  }

  init(_ operation: Operation) {
    switch operation {
    case .apply: self = .apply
    case .read: self = .read
    case .scan: self = .scan
    case .query: self = .query
    case .judge: self = .judge
    case .exportState: self = .exportState
    case .importState: self = .importState
    case .nodeReady: self = .nodeReady
    case .nodeEnding: self = .nodeEnding
    }
  }
}

/// Which plugin the calling thread is in, for the next start and the watchdog (SystemShims, Marks.h).
typealias ThreadMark = UnsafeMutablePointer<bp_thread_mark>

extension UnsafeMutablePointer where Pointee == bp_thread_mark {
  /// The calling thread's own.
  @inline(__always)
  static var own: ThreadMark { bp_own_thread_mark() }

  @inline(__always)
  static func word(_ call: MarkedCall, _ handle: bp_instance) -> UInt64 { UInt64(call.rawValue) << 56 | handle }

  /// Marks the calling thread as in `call` of an instance for the length of `body`. Calls nest.
  ///
  /// - Parameters:
  ///   - generation: whose lease the call holds; 0 for none.
  ///   - startNs: CLOCK_MONOTONIC when it is at hand anyway, else 0.
  ///   - header: the call's own; must live as long as `body` runs.
  @inline(__always)
  func during<R>(
    _ call: MarkedCall, _ handle: bp_instance, generation: UInt64 = 0, startNs: UInt64 = 0,
    header: UnsafePointer<bp_call>? = nil, _ body: () -> R
  ) -> R {
    let (word, outerGeneration, outerStartNs, outerCall) = (
      pointee.word, pointee.generation, pointee.start_ns, pointee.call
    )
    pointee.generation = generation
    pointee.start_ns = startNs
    pointee.call = UnsafeRawPointer(header)
    pointee.sequence &+= 1
    pointee.word = ThreadMark.word(call, handle)
    let result = body()
    pointee.word = word
    pointee.generation = outerGeneration
    pointee.start_ns = outerStartNs
    pointee.call = outerCall
    return result
  }

  /// One level of inline completions.
  @inline(__always)
  func nested<R>(_ body: () -> R) -> R {
    pointee.nesting += 1
    defer { pointee.nesting -= 1 }
    return body()
  }
}

extension bp_completion {
  /// Answers a request of `caller`'s: what runs is the caller's code, whoever's thread it is.
  @inline(__always)
  func answer(_ caller: bp_instance, _ result: UnsafePointer<bp_result>) {
    ThreadMark.own.during(.complete, caller) { complete(context, result) }
  }
}
