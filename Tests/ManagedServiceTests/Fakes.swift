import Foundation
import JSONText
import ManagedNode
import MessageCrypto
import PluginAPI
import Synchronization
import VectorTesting

@testable import ManagedService

/// Records as a config server would keep them.
final class FakeStore: ManagementStore {
  struct State {
    var records: [String: StoredRecord] = [:]
    var trouble: Trouble?
    var writeTrouble: Trouble?
    var writes: [(uri: String, data: [UInt8])] = []
    var readsCount = 0
    var clock = 1_000.0
  }
  let state = Mutex(State())
  let name = "http://config.test:9900"

  func read(_ uri: String) async throws(Trouble) -> StoredRecord? {
    let (record, trouble) = state.withLock { state in
      state.readsCount += 1
      return (state.records[uri], state.trouble)
    }
    if let trouble { throw trouble }
    return record
  }

  func write(_ uri: String, _ data: [UInt8]) async throws(Trouble) {
    if let trouble = state.withLock({ $0.writeTrouble }) { throw trouble }
    state.withLock { $0.writes.append((uri, data)) }
  }

  func put(_ uri: String, _ data: [UInt8], timestampMs: Double? = nil) {
    state.withLock { state in
      state.clock += 1
      state.records[uri] = StoredRecord(data: data, timestampMs: timestampMs ?? state.clock)
    }
  }

  func fail(_ text: String?) { state.withLock { $0.trouble = text.map { Trouble($0) } } }
  func writes(to uri: String) -> [[UInt8]] { state.withLock { $0.writes.filter { $0.uri == uri }.map(\.data) } }
}

/// A kernel that takes what it is told to take.
final class FakeKernel: Proposing {
  struct State {
    var proposals: [String] = []
    var judge: @Sendable (String) -> ProposalVerdict = { _ in .inPlace }
  }
  let state = Mutex(State())

  func propose(_ json: [UInt8]) async -> ProposalVerdict {
    let text = String(decoding: json, as: UTF8.self)
    let judge = state.withLock { state in
      state.proposals.append(text)
      return state.judge
    }
    return judge(text)
  }

  var proposals: [String] { state.withLock { $0.proposals } }
  func judge(_ judge: @escaping @Sendable (String) -> ProposalVerdict) { state.withLock { $0.judge = judge } }
}

final class FakeNode: NodeReporting {
  struct State {
    var slots = [
      SlotReport(
        name: "http", kind: "transport", plugin: "org.backplane.http", version: "1", scheme: "", state: .healthy,
        message: ""),
      FakeNode.backend("memory"),
    ]
    var operations: [String: CallCounts] = [:]
    var ports = [9_942]
  }
  let state = Mutex(State())

  static func backend(_ scheme: String, _ health: SlotReport.State = .healthy) -> SlotReport {
    SlotReport(
      name: scheme, kind: "backend", plugin: "org.backplane.\(scheme)", version: "1", scheme: scheme, state: health,
      message: "")
  }

  func slots() -> [SlotReport] { state.withLock { $0.slots } }
  func operations() -> [String: CallCounts] { state.withLock { $0.operations } }
  func listeningPorts() -> [Int] { state.withLock { $0.ports } }
}

final class FakeDownloads: Downloading {
  struct State {
    var files: [String: (bytes: [UInt8], tag: String?)] = [:]
    var asked: [(url: String, tag: String?)] = []
  }
  let state = Mutex(State())

  func download(_ url: String, unlessTag: String?) async throws(Trouble) -> Download {
    let file = state.withLock { state in
      state.asked.append((url, unlessTag))
      return state.files[url]
    }
    guard let file else { throw Trouble("\(url) answers with status 404") }
    if let tag = unlessTag, tag == file.tag { return .unchanged }
    return .file(file.bytes, entityTag: file.tag)
  }

  func put(_ url: String, _ bytes: [UInt8], tag: String? = nil) { state.withLock { $0.files[url] = (bytes, tag) } }
  var askedCount: Int { state.withLock { $0.asked.count } }
}

final class FakeJournal: Journal {
  private let said = Mutex<[String]>([])
  func info(_ line: String) { said.withLock { $0.append(line) } }
  func warning(_ line: String) { said.withLock { $0.append(line) } }
  var lines: [String] { said.withLock { $0 } }
  func count(_ part: String) -> Int { lines.count { $0.contains(part) } }
  func forget() { said.withLock { $0 = [] } }
}

final class FakeMeter: Metering {
  struct State {
    var polls = 0
    var pollFailures = 0
    var reports: [String] = []
    var updates: [String] = []
    var health: String?
  }
  let state = Mutex(State())
  func polled(failed: Bool) {
    state.withLock {
      $0.polls += 1
      if failed { $0.pollFailures += 1 }
    }
  }
  func applied(failed: Bool) {}
  func reported(_ report: String, failed: Bool) {
    state.withLock { $0.reports.append(failed ? "\(report) failed" : report) }
  }
  func updated(_ outcome: String) { state.withLock { $0.updates.append(outcome) } }
  func ages(configuration: Double?, unconfirmed: Double) {}
  func health(_ problem: String?) { state.withLock { $0.health = problem } }
  var health: String? { state.withLock { $0.health } }
  var updates: [String] { state.withLock { $0.updates } }
}

/// Time that goes on when it is told to.
final class ManualClock: ManagedClock {
  private struct Sleeper {
    var untilNs: UInt64
    var continuation: CheckedContinuation<Void, Never>
  }
  private struct State {
    var nowNs: UInt64 = 1_000_000_000
    var next = 0
    var sleepers: [Int: Sleeper] = [:]
    var cancelled: Set<Int> = []
    var watchers: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
  }
  private let state = Mutex(State())

  var monotonicNs: UInt64 { state.withLock { $0.nowNs } }
  var wallMs: Double { 1_700_000_000_000 + Double(monotonicNs / 1_000_000) }

  func sleep(untilNs: UInt64) async {
    let number = state.withLock { state in
      state.next += 1
      return state.next
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOver = state.withLock { state in
          if state.cancelled.remove(number) != nil || state.nowNs >= untilNs { return true }
          state.sleepers[number] = Sleeper(untilNs: untilNs, continuation: continuation)
          return false
        }
        if isOver { continuation.resume() } else { tell() }
      }
    } onCancel: {
      let sleeper = state.withLock { state in
        let sleeper = state.sleepers.removeValue(forKey: number)
        if sleeper == nil { state.cancelled.insert(number) }
        return sleeper
      }
      sleeper?.continuation.resume()
    }
  }

  private func tell() {
    let ready = state.withLock { state in
      let ready = state.watchers.filter { $0.count <= state.sleepers.count }
      state.watchers.removeAll { $0.count <= state.sleepers.count }
      return ready
    }
    for watcher in ready { watcher.continuation.resume() }
  }

  /// Returns when so many sleep.
  func settled(_ count: Int) async {
    await withCheckedContinuation { continuation in
      let isReady = state.withLock { state in
        if state.sleepers.count >= count { return true }
        state.watchers.append((count, continuation))
        return false
      }
      if isReady { continuation.resume() }
    }
  }

  /// Time goes on; whoever is due wakes. Returns when all sleep again.
  func advance(ms: Int, sleepers: Int = 5) async {
    skip(ms: ms)
    await settled(sleepers)
  }

  func skip(ms: Int) {
    let due = state.withLock { state in
      state.nowNs += UInt64(ms) * 1_000_000
      let due = state.sleepers.filter { $0.value.untilNs <= state.nowNs }
      for key in due.keys { state.sleepers[key] = nil }
      return due.values
    }
    for sleeper in due { sleeper.continuation.resume() }
  }
}
