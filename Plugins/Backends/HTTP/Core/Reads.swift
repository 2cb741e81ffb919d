import JSONText
import NIOCore
import PluginAPI
import Synchronization

/// Reads: one `GET read` for a record, or `POST read-multi` for those that are asked for together.
final class Reads: Sendable {
  /// The most URIs that a read-multi may have.
  private static let urisMax = 50
  /// How long a remote that has no read-multi is not asked for one.
  private static let singlyNs: UInt64 = 300_000_000_000

  private let remote: Remote
  private let loops: LoopGuard
  private let calls: OpenCalls
  private let metrics: RemoteMetrics
  /// Until when records are read one by one, CLOCK_MONOTONIC.
  private let singlyUntilNs = Atomic<UInt64>(0)

  init(_ remote: Remote, _ loops: LoopGuard, _ calls: OpenCalls, _ metrics: RemoteMetrics) {
    self.remote = remote
    self.loops = loops
    self.calls = calls
    self.metrics = metrics
  }

  /// One URI and all that wait for it.
  struct Wanted: Sendable {
    var uri: String
    var target: String
    var entry: LoopGuard.Entry
    var calls: [ReadCall]
  }

  func submit(_ call: ReadCall) {
    let uri = String(decoding: call.uri, as: UTF8.self)
    if let wanted = enter(uri, [call], RequestKey(call.header)) { readSingly(wanted) }
  }

  func submit(_ batch: ReadBatch) {
    let key = RequestKey(batch[0].header)
    var order: [String] = []
    var waiting: [String: [ReadCall]] = [:]
    for index in 0..<batch.count {
      let uri = String(decoding: batch[index].uri, as: UTF8.self)
      if waiting[uri] == nil { order.append(uri) }
      waiting[uri, default: []].append(batch[index])
    }
    let wanted = order.compactMap { enter($0, waiting[$0]!, key) }
    guard wanted.count > 1, NIODeadline.now().uptimeNanoseconds >= singlyUntilNs.load(ordering: .relaxed) else {
      for one in wanted { readSingly(one) }
      return
    }
    var start = 0
    while start < wanted.count {
      let end = min(start + Self.urisMax, wanted.count)
      readTogether(Array(wanted[start..<end]))
      start = end
    }
  }

  /// Nil when the calls have been answered.
  private func enter(_ uri: String, _ calls: [ReadCall], _ key: RequestKey) -> Wanted? {
    // Nothing can have been written through this backend where no path leads.
    guard let target = RecordPath.target("read", calls[0].uri, base: remote.settings.remote.base) else {
      for call in calls { call.notFound() }
      return nil
    }
    guard let entry = loops.enter(key, .read, uri) else {
      metrics.loopsCut.increment()
      for call in calls { call.notFound() }
      return nil
    }
    return Wanted(uri: uri, target: target, entry: entry, calls: calls)
  }

  private func request(_ wanted: Wanted) -> RemoteRequest {
    var request = RemoteRequest(method: .get, target: wanted.target, key: wanted.entry.key)
    request.take(wanted.calls[0].header)
    return request
  }

  // MARK: One by one

  private func readSingly(_ wanted: Wanted) {
    let token = wanted.calls[0].token
    let sending = remote.send(request(wanted)) { [self] result in
      calls.end(token)
      loops.leave(wanted.entry)
      ReadAnswer.with(result, remote.settings) { answer in
        for call in wanted.calls { answer.complete(call) }
      }
    }
    // The others want it still when one gives up.
    if wanted.calls.count == 1 { calls.begin(token, sending) }
  }

  // MARK: Together

  private func readTogether(_ wanted: [Wanted]) {
    var request = request(wanted[0])
    request.method = .post
    request.target = "\(remote.settings.remote.base)/api/v1/read-multi"
    request.body = {
      var text = Array(#"{"uris":["#.utf8)
      for (index, one) in wanted.enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        JSONWriter.appendString(one.uri, to: &text)
      }
      text.append(contentsOf: "]}".utf8)
      return ByteBuffer(bytes: text)
    }
    remote.send(request) { [self] result in
      switch result {
      case .failure(let failure): fail(wanted, failure)
      case .success(let answer):
        switch answer.status {
        case 200: take(answer, wanted)
        case 404, 405, 501:
          // The peer's node has none; its client falls back in the same way.
          singlyUntilNs.store(NIODeadline.now().uptimeNanoseconds + Self.singlyNs, ordering: .relaxed)
          for one in wanted { readSingly(one) }
        default: fail(wanted, AnswerFailure.of(answer, remote.settings))
        }
      }
    }
  }

  private func fail(_ wanted: [Wanted], _ failure: Failure) {
    for one in wanted {
      loops.leave(one.entry)
      for call in one.calls { call.fail(failure) }
    }
  }

  /// What the answer leaves open (a record too large for it, a failure) is asked for by itself.
  private func take(_ answer: RemoteAnswer, _ wanted: [Wanted]) {
    var open: [Wanted] = []
    answer.body.withUnsafeReadableBytes { bytes in
      var results: JSONElements?
      if case .success(let value) = JSONScanner(depthMax: 1_000_003).scan(bytes), let list = value.member("results") {
        results = list.elements
      }
      for one in wanted {
        guard let item = results?.next(), let read = ReadAnswer(item: item, uri: one.uri) else {
          open.append(one)
          continue
        }
        loops.leave(one.entry)
        for call in one.calls { read.complete(call) }
      }
    }
    for one in open { readSingly(one) }
  }
}
