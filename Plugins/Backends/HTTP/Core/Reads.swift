import Glibc
import JSONText
import NIOCore
import PluginAPI

/// Single records.
struct Reads: Sendable {
  let remote: Remote
  let loops: LoopGuard
  let calls: OpenCalls
  let metrics: RemoteMetrics

  func submit(_ call: ReadCall) {
    let uri = String(decoding: call.uri, as: UTF8.self)
    guard let target = RecordPath.target("read", call.uri, base: remote.settings.remote.base) else {
      // Nothing can have been written there through this backend.
      return call.notFound()
    }
    let key = RequestKey(call.header)
    guard let entry = loops.enter(key, .read, uri) else {
      metrics.loopsCut.increment()
      return call.notFound()
    }
    var request = RemoteRequest(method: .get, target: target, key: key)
    request.trace = Trace.text(call.header)
    request.deadlineNs = call.header?.deadline_ns ?? 0
    let sending = remote.send(request) { result in
      calls.end(call.token)
      loops.leave(entry)
      complete(call, result)
    }
    calls.begin(call.token, sending)
  }

  private func complete(_ call: ReadCall, _ result: Result<RemoteAnswer, Failure>) {
    switch result {
    case .failure(let failure): call.fail(failure)
    case .success(let answer):
      switch answer.status {
      case 200: found(call, answer)
      case 404 where answer.isJSON: call.notFound()
      default: call.fail(AnswerFailure.of(answer, remote.settings))
      }
    }
  }

  private func found(_ call: ReadCall, _ answer: RemoteAnswer) {
    answer.body.withUnsafeReadableBytes { bytes in
      // A node of ours says what it is; with a peer the media type has to do.
      let said = answer.headers.first(name: "x-backplane-content")
      if said == "json" || (said == nil && answer.isJSON) {
        if let record = JSONRecord(bytes) {
          return call.found(
            timestampMs: record.timestampMs, version: 0, content: .json,
            data: record.data.bytes.assumingMemoryBound(to: UInt8.self))
        }
        // Bytes stored under a name like a.json.
        if said == "json" { return call.fail(AnswerFailure.strange(answer, remote.settings)) }
      }
      let timestampMs = answer.headers.first(name: "x-backplane-ts-ms").flatMap { UInt64($0) }
      call.found(
        timestampMs: timestampMs ?? wallMs(), version: 0, content: .bytes,
        data: bytes.assumingMemoryBound(to: UInt8.self))
    }
  }

  /// A peer does not say when bytes were stored; like its client, this says now.
  private func wallMs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(time.tv_sec) * 1_000 + UInt64(time.tv_nsec) / 1_000_000
  }
}

/// `{"ts":<ms>,"data":<any JSON>}`; the data as it is written.
struct JSONRecord {
  var timestampMs: UInt64
  var data: JSONSlice

  /// Nil when `bytes` are no such object.
  init?(_ bytes: UnsafeRawBufferPointer) {
    guard case .success(let value) = JSONScanner(depthMax: 1_000_001).scan(bytes), value.kind == .object else {
      return nil
    }
    self.init(value)
  }

  init?(_ value: JSONSlice) {
    var ts: JSONSlice?
    var found: JSONSlice?
    for (key, value) in value.members {
      if key.isText("ts") { ts = value } else if key.isText("data") { found = value }
    }
    guard let ts, ts.kind == .number, let found else { return nil }
    let text = String(decoding: ts.bytes, as: UTF8.self)
    guard let number = UInt64(text) ?? Double(text).flatMap({ UInt64(exactly: $0.rounded()) }) else { return nil }
    timestampMs = number
    data = found
  }
}
