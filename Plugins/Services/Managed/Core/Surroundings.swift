import ManagedNode

/// A record at CONFIG_URL.
struct StoredRecord: Equatable, Sendable {
  /// As it was stored, byte for byte.
  var data: [UInt8]
  /// When, by the clock of whoever stores it; milliseconds since 1970.
  var timestampMs: Double
}

/// Why something outside did not work: one sentence, without a secret.
struct Trouble: Error, Equatable, Sendable, CustomStringConvertible {
  var description: String
  /// It answered, and said no.
  var isRefusal = false

  init(_ description: String, isRefusal: Bool = false) {
    self.description = description
    self.isRefusal = isRefusal
  }
}

/// Where the configuration is read and the status is written: another node, or this one.
protocol ManagementStore: Sendable {
  /// For people; no credentials.
  var name: String { get }
  /// Nil: there is no such record. Bounded in time and size.
  func read(_ uri: String) async throws(Trouble) -> StoredRecord?
  func write(_ uri: String, _ data: [UInt8]) async throws(Trouble)
}

/// How a proposal ended.
enum ProposalVerdict: Equatable, Sendable {
  case inPlace
  /// `reason` is one line for a person.
  case refused(reason: String)
}

/// The kernel, as far as it takes configurations.
protocol Proposing: Sendable {
  func propose(_ json: [UInt8]) async -> ProposalVerdict
}

/// One slot, as the host sees it.
struct SlotReport: Equatable, Sendable {
  enum State: Equatable, Sendable {
    case healthy
    case degraded
    case unhealthy
  }
  var name: String
  var kind: String
  var plugin: String
  var version: String
  /// Of a backend's URL; empty when it has none.
  var scheme: String
  var state: State
  var message: String
}

/// The node as it is.
protocol NodeReporting: Sendable {
  func slots() -> [SlotReport]
  /// By the operation's name: `receive`, `read`, ….
  func operations() -> [String: CallCounts]
  /// The ports that this node listens on, the oldest first.
  func listeningPorts() -> [Int]
}

/// Time that tests can hold still.
protocol ManagedClock: Sendable {
  /// CLOCK_MONOTONIC.
  var monotonicNs: UInt64 { get }
  /// Milliseconds since 1970.
  var wallMs: Double { get }
  /// Returns at `untilNs` or later, or as soon as the task is cancelled.
  func sleep(untilNs: UInt64) async
}

/// What came back when a file was asked for.
enum Download: Equatable, Sendable {
  case file([UInt8], entityTag: String?)
  /// As when the tag was given out.
  case unchanged
}

/// Fetches files over the network: bounded in size, time and redirects.
protocol Downloading: Sendable {
  func download(_ url: String, unlessTag: String?) async throws(Trouble) -> Download
}

/// The host's log: the peer's lines are the message, as it prints them.
protocol Journal: Sendable {
  func info(_ line: String)
  func warning(_ line: String)
}

/// Everything that managed mode touches.
struct Surroundings: Sendable {
  var store: any ManagementStore
  var kernel: any Proposing
  var node: any NodeReporting
  var clock: any ManagedClock
  var downloads: any Downloading
  var journal: any Journal
  var meter: any Metering
  var files: StateFiles
}
