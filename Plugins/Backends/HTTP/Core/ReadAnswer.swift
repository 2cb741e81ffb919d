import Glibc
import JSONText
import NIOCore
import PluginAPI

/// What the remote says of one record. Borrows from its answer.
enum ReadAnswer {
  case found(timestampMs: UInt64, content: Content, data: UnsafeRawBufferPointer)
  /// Bytes that came as a marker.
  case decoded(timestampMs: UInt64, data: [UInt8])
  case notFound
  case failed(Failure)

  func complete(_ call: ReadCall) {
    switch self {
    case .found(let timestampMs, let content, let data):
      call.found(
        timestampMs: timestampMs, version: 0, content: content, data: data.assumingMemoryBound(to: UInt8.self))
    case .decoded(let timestampMs, let data):
      data.withUnsafeBufferPointer { call.found(timestampMs: timestampMs, version: 0, content: .bytes, data: $0) }
    case .notFound: call.notFound()
    case .failed(let failure): call.fail(failure)
    }
  }

  /// Calls `body` with what an answer to `GET read` says; it is valid during the call.
  static func with(_ result: Result<RemoteAnswer, Failure>, _ settings: Settings, _ body: (ReadAnswer) -> Void) {
    switch result {
    case .failure(let failure): body(.failed(failure))
    case .success(let answer):
      switch answer.status {
      case 200: answer.body.withUnsafeReadableBytes { body(found($0, answer, settings)) }
      case 404 where answer.isJSON: body(.notFound)
      default: body(.failed(AnswerFailure.of(answer, settings)))
      }
    }
  }

  private static func found(
    _ bytes: UnsafeRawBufferPointer, _ answer: RemoteAnswer, _ settings: Settings
  ) -> ReadAnswer {
    // A node of ours says what it is; with a peer the media type has to do.
    let said = answer.headers.first(name: "x-backplane-content")
    if said == "json" || (said == nil && answer.isJSON) {
      if let record = JSONRecord(bytes) {
        return .found(timestampMs: record.timestampMs, content: .json, data: record.data.bytes)
      }
      // Else bytes that were stored under a name like a.json.
      if said == "json" { return .failed(AnswerFailure.strange(answer, settings)) }
    }
    let timestampMs = answer.headers.first(name: "x-backplane-ts-ms").flatMap { UInt64($0) }
    return .found(timestampMs: timestampMs ?? wallMs(), content: .bytes, data: bytes)
  }

  /// One of the results of a read-multi; nil when it does not say what there is.
  init?(item: JSONSlice, uri: String) {
    guard item.member("uri")?.text == uri, let success = item.member("success") else { return nil }
    guard success.kind == .true else {
      guard item.member("error")?.text?.hasPrefix("Not found") == true else { return nil }
      self = .notFound
      return
    }
    guard let record = item.member("record").flatMap({ JSONRecord($0) }) else { return nil }
    if let marked = BinaryMarker.find(in: record.data) {
      var data: [UInt8] = []
      BinaryMarker.decode(marked, into: &data)
      self = .decoded(timestampMs: record.timestampMs, data: data)
    } else {
      self = .found(timestampMs: record.timestampMs, content: .json, data: record.data.bytes)
    }
  }

  /// A peer does not say when bytes were stored; like its client, this says now.
  private static func wallMs() -> UInt64 {
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
    guard case .success(let value) = JSONScanner(depthMax: 1_000_001).scan(bytes) else { return nil }
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
