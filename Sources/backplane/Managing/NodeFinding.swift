import Foundation
import ManagedNode
import MessageCrypto

/// What was found of one node at one time.
struct NodeFinding: Sendable {
  /// What a node reports.
  enum Report: Sendable {
    case status(NodeStatus)
    case metrics(NodeMetrics)
  }

  /// Whether what was found is by the node.
  enum Signature: String, Sendable {
    case valid, invalid, none, unknown
  }

  let node: WatchedNode
  let report: Report?
  let signature: Signature
  /// The report as it came; nil when there is none that can be trusted.
  let payload: JSONValue?
  /// Since the heartbeat, or since the record was written.
  let ageMs: Int64?
  /// Why there is no report, or what the node says is wrong with it.
  let problem: String?
  /// Nobody answered where the report should be.
  var isUnreachable = false

  /// More than three heartbeats are missing. A node that said farewell owes none.
  var isStale: Bool {
    guard let ageMs else { return false }
    switch report {
    case .status(let status):
      return status.status != .offline && Double(ageMs) > 3 * node.heartbeatIntervalMs
    // Metrics come every 30 seconds, however often the heart beats.
    case .metrics: return Double(ageMs) > 3 * max(node.heartbeatIntervalMs, 30_000)
    case nil: return false
    }
  }

  /// The node is what it should be, as far as it says.
  var isGood: Bool {
    switch report {
    case .status(let status): status.status == .online && !isStale
    case .metrics: !isStale
    case nil: false
    }
  }

  var metrics: NodeMetrics? {
    switch report {
    case .status(let status): status.metrics
    case .metrics(let metrics): metrics
    case nil: nil
    }
  }

  var name: String {
    if let name = node.name { return name }
    if case .status(let status) = report { return status.name }
    return "-"
  }

  var json: JSONValue {
    var members: [String: JSONValue] = [
      "node_id": .string(node.id), "name": .string(name), "signature": .string(signature.rawValue),
      "stale": .bool(isStale), "ok": .bool(isGood), "report": payload ?? .null,
    ]
    if let ageMs { members["age_ms"] = .integer(ageMs) }
    if let problem { members["problem"] = .string(problem) }
    return .object(members)
  }
}

/// Looks at what nodes report.
struct NodeFinder: Sendable {
  let client: DocumentClient
  let subject: ManagedDocument.Subject
  let decryptionKey: X25519.KeyPair?
  private static let concurrentMax = 16

  /// All of `nodes`, in their order.
  func look(at nodes: [WatchedNode]) async -> [NodeFinding] {
    await withTaskGroup(of: (Int, NodeFinding).self) { group in
      var findings = [NodeFinding?](repeating: nil, count: nodes.count)
      for (index, node) in nodes.enumerated() {
        if index >= Self.concurrentMax, let (place, finding) = await group.next() { findings[place] = finding }
        group.addTask { (index, await look(at: node)) }
      }
      for await (place, finding) in group { findings[place] = finding }
      return findings.compactMap { $0 }
    }
  }

  private func look(at node: WatchedNode) async -> NodeFinding {
    let document: ManagedDocument = subject == .status ? .status(nodeId: node.id) : .metrics(nodeId: node.id)
    do {
      guard let answer = try await client.read(document) else {
        return none(node, .unknown, subject == .status ? "no heartbeat" : "no metrics")
      }
      return found(node, answer, document)
    } catch let failure as CommandFailure {
      var finding = none(node, .unknown, failure.message)
      finding.isUnreachable = failure.status == .unavailable
      return finding
    } catch {
      return none(node, .unknown, "\(error)")
    }
  }

  private func found(_ node: WatchedNode, _ answer: RecordAnswer, _ document: ManagedDocument) -> NodeFinding {
    let nowMs = Int64(Date().timeIntervalSince1970 * 1000)
    let payload: [UInt8]
    do throws(ManagedMessageError) {
      payload = try document.open(answer.data, decryptionKey: decryptionKey).payload.bytes
    } catch { return none(node, Self.signature(error.reason), Self.text(error)) }
    do throws(DocumentError) {
      guard subject == .status else {
        return NodeFinding(
          node: node, report: .metrics(try NodeMetrics(payload)), signature: .valid, payload: JSONValue.parse(payload),
          ageMs: Self.age(answer.timestampMs, nowMs), problem: nil)
      }
      let status = try NodeStatus(payload)
      return NodeFinding(
        node: node, report: .status(status), signature: .valid, payload: JSONValue.parse(payload),
        ageMs: Self.age(status.lastHeartbeatMs, nowMs), problem: status.problem)
    } catch { return none(node, .valid, "what it wrote is no \(subject.rawValue): \(error)") }
  }

  /// Clocks differ; nothing is younger than now.
  private static func age(_ timeMs: Int64, _ nowMs: Int64) -> Int64 {
    let (age, hasOverflowed) = nowMs.subtractingReportingOverflow(timeMs)
    return hasOverflowed ? (timeMs < 0 ? .max : 0) : max(0, age)
  }

  private func none(_ node: WatchedNode, _ signature: NodeFinding.Signature, _ problem: String) -> NodeFinding {
    NodeFinding(node: node, report: nil, signature: signature, payload: nil, ageMs: nil, problem: problem)
  }

  private static func signature(_ reason: ManagedMessageError.Reason) -> NodeFinding.Signature {
    switch reason {
    case .noValidSignature: .invalid
    case .notSigned: .none
    // Looked at before it is decrypted.
    case .notDecrypted: .valid
    default: .unknown
    }
  }

  /// Short: the row says which node it is.
  private static func text(_ error: ManagedMessageError) -> String {
    switch error.reason {
    case .noValidSignature: "what is there is not signed by the node"
    case .notSigned: "what is there is not signed"
    case .noDecryptionKey: "encrypted: --decryption-key"
    case .notDecrypted: "encrypted to another key"
    default: "\(error)"
    }
  }
}
