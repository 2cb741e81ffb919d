import Foundation

/// Who holds which generation: what `backplane generations` shows.
public struct GenerationsReport: Codable, Sendable {
  /// One request's hold on a generation.
  public struct Lease: Codable, Sendable {
    /// What the client asked for (`receive`, `read`, `read_multi`, `list`, `delete`), or the plugin's call when that is all
    /// that is known.
    public var request: String
    public var ageMs: Int
    /// The plugin that has it now; empty when none has.
    public var slot: String
    public var plugin: String
    public var version: String
    /// What that plugin was called for.
    public var call: String
    public var peer: String
    /// W3C trace id, 32 hexadecimal digits; empty when it has none.
    public var trace: String
    /// Its client has been answered; the plugin has not completed.
    public var isAnswered: Bool

    enum CodingKeys: String, CodingKey {
      case request, slot, plugin, version, call, peer, trace
      case ageMs = "age_ms"
      case isAnswered = "answered"
    }

    /// As the log names it.
    var text: String {
      var text = request
      if !slot.isEmpty { text += " in slot '\(slot)' (\(plugin) \(version), \(call))" }
      if !peer.isEmpty { text += " for \(peer)" }
      if !trace.isEmpty { text += " trace \(trace)" }
      return text + " since \(ageMs) ms\(isAnswered ? ", answered" : "")"
    }
  }

  public enum State: String, Codable, Sendable {
    /// It serves.
    case published
    /// Superseded; requests that began on it end.
    case draining
    /// Superseded; what is left of it does not come back.
    case wedged
  }

  public struct Generation: Codable, Sendable {
    public var number: UInt64
    public var state: State
    /// Since it was published.
    public var ageMs: Int
    /// How many requests hold it. Short ones come and go while the list is made.
    public var leases: Int
    public var held: [Lease]
    /// Leases that are known and did not find room in `held`.
    public var notShown: Int

    enum CodingKeys: String, CodingKey {
      case number, state, leases, held
      case ageMs = "age_ms"
      case notShown = "not_shown"
    }
  }

  /// An instance that is never called again.
  public struct Wedged: Codable, Sendable {
    public var slot: String
    public var plugin: String
    public var version: String
    /// Where it did not come back from.
    public var call: String
    public var ageMs: Int

    enum CodingKeys: String, CodingKey {
      case slot, plugin, version, call
      case ageMs = "age_ms"
    }
  }

  /// The published one first, then from the newest to the oldest.
  public var generations: [Generation]
  public var wedged: [Wedged]

  /// Most leases in one report.
  static let leasesMax = 1000

  /// What requests and threads say that they hold, by generation.
  static func leases(_ kernel: KernelContext) -> [UInt64: [Lease]] {
    let nowNs = Clock.monotonicNs()
    var result: [UInt64: [Lease]] = [:]
    var headers: Set<UnsafeRawPointer> = []
    for (holding, givenUpNs) in kernel.requests.holdings() {
      headers.insert(holding.header)
      func lease(_ call: (instance: Instance, call: MarkedCall)?) -> Lease {
        Lease(
          request: holding.verb.rawValue, ageMs: milliseconds(since: holding.sinceNs, nowNs),
          slot: call?.instance.slot.name ?? "", plugin: call?.instance.image.id ?? "",
          version: call?.instance.image.version ?? "", call: call?.call.name ?? "", peer: holding.peer,
          trace: trace(holding.traceHigh, holding.traceLow), isAnswered: givenUpNs != nil)
      }
      // One line for each plugin that has it: a write may wait for several backends.
      let lines = holding.waitsFor.isEmpty ? [lease(nil)] : holding.waitsFor.map(lease)
      result[holding.generation, default: []] += lines
    }
    for thread in MarkedThread.all() where thread.generation != 0 {
      if let header = thread.header, headers.contains(header) { continue }
      guard let instance = thread.instance, instance.kernel === kernel else { continue }
      let origin = thread.origin()
      result[thread.generation, default: []].append(
        Lease(
          request: thread.call.request, ageMs: milliseconds(since: thread.startNs, nowNs), slot: instance.slot.name,
          plugin: instance.image.id, version: instance.image.version, call: thread.call.name, peer: origin?.peer ?? "",
          trace: trace(origin?.traceHigh ?? 0, origin?.traceLow ?? 0), isAnswered: false))
    }
    return result.mapValues { $0.sorted { $0.ageMs > $1.ageMs } }
  }

  static func milliseconds(since startNs: UInt64, _ nowNs: UInt64) -> Int {
    startNs == 0 || startNs > nowNs ? 0 : Int((nowNs - startNs) / 1_000_000)
  }

  private static func trace(_ high: UInt64, _ low: UInt64) -> String {
    guard high != 0 || low != 0 else { return "" }
    return [high, low].map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }
}

extension MarkedCall {
  /// What a client asks for when this is called.
  fileprivate var request: String {
    switch self {
    case .apply, .judge: "receive"
    case .scan, .query: "list"
    default: name
    }
  }
}
