import PluginAPI
import Synchronization

/// A call that the plugin makes to the node.
public struct NodeCall: Sendable {
  /// The token that the plugin was handling, or 0.
  public let parent: bp_token
  /// CLOCK_MONOTONIC, nanoseconds; 0: none.
  public let deadlineNs: UInt64
  public let peer: String
}

/// What a list asks for.
public struct ListRequest: Sendable {
  public let uri: String
  public let pattern: String
  public let sort: UInt32
  public let isDescending: Bool
  public let page: UInt64
  public let limit: UInt64
}

public struct ListPage: Sendable {
  public var uris: [String]
  public var total: UInt64

  public init(uris: [String], total: UInt64) {
    self.uris = uris
    self.total = total
  }
}

/// What a write came to.
public struct WriteOutcome: Sendable, Equatable {
  public var durability: Durability
  /// How many deletes found no record.
  public var absentCount: Int
  public var timestampMs: UInt64

  public init(durability: Durability, absentCount: Int = 0, timestampMs: UInt64) {
    self.durability = durability
    self.absentCount = absentCount
    self.timestampMs = timestampMs
  }
}

/// What stands behind backplane.node/1 of a test host. Methods run on the default pool and may suspend; a cancel of the
/// plugin's cancels their task.
public protocol TestNode: Sendable {
  func receive(_ uri: String, _ data: [UInt8], _ content: Content, _ call: NodeCall) async throws -> WriteOutcome
  func read(_ uri: String, _ call: NodeCall) async throws -> Record?
  func list(_ request: ListRequest, _ call: NodeCall) async throws -> ListPage
  /// Nil: there was no record.
  func remove(_ uri: String, _ call: NodeCall) async throws -> WriteOutcome?
  func programs() -> [String]
  func normalise(_ uri: String) -> String?
}

/// A node without schemas: a dictionary. Everything that is received is stored; `refusing` makes it say no.
public final class InMemoryNode: TestNode {
  private struct State {
    var records: [String: Record] = [:]
    var reads: [(uri: String, parent: bp_token)] = []
    var clock: UInt64 = 0
    var refusal: Failure?
  }

  private let state = Mutex(State())
  private let listed: [String]
  private let feed: ScriptedFeed?

  /// - Parameter feed: is told of every write that is accepted.
  public init(programs: [String] = [], feed: ScriptedFeed? = nil) {
    listed = programs
    self.feed = feed
  }

  /// All records by URI.
  public var records: [String: Record] {
    get { state.withLock { $0.records } }
    set { state.withLock { $0.records = newValue } }
  }

  /// Every read so far, with the token it was made for.
  public var reads: [(uri: String, parent: bp_token)] { state.withLock { $0.reads } }

  /// Every write fails with this from now on; nil: writes succeed again.
  public func refuse(_ failure: Failure?) { state.withLock { $0.refusal = failure } }

  /// Stores a record, as if it had been written before.
  public func put(_ uri: String, _ data: [UInt8], _ content: Content = .json) {
    state.withLock { state in
      state.clock += 1
      state.records[uri] = Record(data: data, content: content, timestampMs: state.clock, version: state.clock)
    }
  }

  public func receive(_ uri: String, _ data: [UInt8], _ content: Content, _ call: NodeCall) throws -> WriteOutcome {
    guard let uri = normalise(uri) else { throw Failure.invalid("'\(uri)' is not a URI") }
    if let refusal = state.withLock({ $0.refusal }) { throw refusal }
    put(uri, data, content)
    let clock = state.withLock { $0.clock }
    feed?.publish(uri, data, content, timestampMs: clock, version: clock)
    return WriteOutcome(durability: .memory, timestampMs: clock)
  }

  public func read(_ uri: String, _ call: NodeCall) throws -> Record? {
    guard let uri = normalise(uri) else { throw Failure.invalid("'\(uri)' is not a URI") }
    return state.withLock { state in
      state.reads.append((uri, call.parent))
      return state.records[uri]
    }
  }

  /// Sorted by URI (bytes); the pattern is not looked at.
  public func list(_ request: ListRequest, _ call: NodeCall) -> ListPage {
    let below = request.uri.hasSuffix("/") ? request.uri : request.uri + "/"
    var uris = records.keys.filter { $0.hasPrefix(below) }.sorted()
    if request.isDescending { uris.reverse() }
    let start = Int(min(UInt64(uris.count), (max(1, request.page) - 1) * request.limit))
    return ListPage(
      uris: Array(uris[start...].prefix(Int(min(request.limit, 100_000)))), total: UInt64(uris.count))
  }

  public func remove(_ uri: String, _ call: NodeCall) throws -> WriteOutcome? {
    guard let uri = normalise(uri) else { throw Failure.invalid("'\(uri)' is not a URI") }
    let clock = state.withLock { state -> UInt64? in
      guard state.records.removeValue(forKey: uri) != nil else { return nil }
      state.clock += 1
      return state.clock
    }
    guard let clock else { return nil }
    feed?.publishDelete(uri, timestampMs: clock, version: clock)
    return WriteOutcome(durability: .memory, timestampMs: clock)
  }

  public func programs() -> [String] { listed }

  /// Far simpler than the kernel's: the scheme in lower case, and something after `://`.
  public func normalise(_ uri: String) -> String? {
    guard let (scheme, rest) = splitScheme(uri), !rest.isEmpty else { return nil }
    return scheme.lowercased() + "://" + rest
  }
}

/// `mutable` and `open/a` of `mutable://open/a`.
func splitScheme(_ uri: String) -> (scheme: Substring, rest: Substring)? {
  guard let colon = uri.firstIndex(of: ":"), colon > uri.startIndex, uri[colon...].hasPrefix("://") else { return nil }
  return (uri[..<colon], uri[uri.index(colon, offsetBy: 3)...])
}

/// `mutable://open` of `mutable://open/a`; empty for what is not a URI.
func program(of uri: String) -> String {
  guard let (scheme, rest) = splitScheme(uri) else { return "" }
  return "\(scheme)://\(rest.prefix { $0 != "/" })"
}
