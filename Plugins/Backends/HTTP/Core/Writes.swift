import BackendSupport
import JSONText
import NIOCore
import PluginAPI

/// Units: each becomes one request, `POST receive` of the message or `DELETE`.
struct Writes: Sendable {
  let remote: Remote
  let order: WriteOrder
  let loops: LoopGuard
  let calls: OpenCalls
  let metrics: RemoteMetrics

  init(_ remote: Remote, _ loops: LoopGuard, _ calls: OpenCalls, _ metrics: RemoteMetrics) {
    self.remote = remote
    self.loops = loops
    self.calls = calls
    self.metrics = metrics
    order = WriteOrder(countMax: remote.settings.queueUnitsMax)
  }

  func submit(_ unit: UnitCall) {
    let key = RequestKey(unit.header)
    let first = unit[0]
    if let refusal = refusal(unit) { return unit.fail(refusal) }
    let uri = String(decoding: first.uri.bytes, as: UTF8.self)
    guard let entry = loops.enter(key, first.isDelete ? .delete : .put, uri) else {
      // The request that began this is still open and waits for the answer to this one: what it writes here is on its
      // way already. Nothing more is promised.
      metrics.loopsCut.increment()
      return unit.applied(.memory, absentCount: first.isDelete ? 1 : 0)
    }
    guard let request = request(unit, first, key) else {
      loops.leave(entry)
      return unit.fail(RecordPath.unaddressable(first.uri.bytes))
    }
    var uris = [uri]
    if unit.count > 1 {
      uris = Array(Set((0..<unit.count).map { String(decoding: unit[$0].uri.bytes, as: UTF8.self) }))
    }
    // What another node sent on must not wait for what began here: that may be waiting for the same node. Nor need it:
    // the node that sent it lets only one write to a URI out at a time.
    if key.isGiven { uris = [] }
    let job = WriteJob(unit, request, isDelete: first.isDelete, entry: entry, uris: uris)
    switch order.enter(job) {
    case .first: send(job)
    case .behind: break
    case .full:
      loops.leave(entry)
      unit.fail(
        .exhausted(
          "\(remote.settings.queueUnitsMax) units wait for \(remote.settings.remote.text), which is queue_units_max; "
            + "write more slowly or raise it", retryAfterMs: 100))
    }
  }

  /// What cannot be asked of another node.
  private func refusal(_ unit: UnitCall) -> Failure? {
    for index in 0..<unit.count {
      let op = unit[index]
      if let problem = op.problem { return problem }
      if op.condition != BP_IF_ANY {
        return .unimplemented(
          "the HTTP backend cannot write under a condition: \(remote.settings.remote.text) has no request for it; put a "
            + "backend that can before it")
      }
    }
    if !EnvelopeUnit.isExpansion(unit) {
      return .unimplemented(
        "the HTTP backend cannot write several records at once, unless they are the outputs of one envelope")
    }
    return nil
  }

  private func request(_ unit: UnitCall, _ op: bp_op, _ key: RequestKey) -> RemoteRequest? {
    // Also for what is sent by POST: it could never be read or deleted.
    guard let path = RecordPath.target("delete", op.uri.bytes, base: remote.settings.remote.base) else { return nil }
    var request = RemoteRequest(method: .delete, target: path, key: key)
    request.take(unit.header)
    guard !op.isDelete else { return request }
    request.method = .post
    request.target = "\(remote.settings.remote.base)/api/v1/receive"
    // The views of the op are valid until the unit is completed, and it is completed after its request has ended.
    request.body = { ReceiveRequest.body(unit[0]) }
    return request
  }

  private func send(_ job: WriteJob) {
    let sending = remote.send(job.request) { [self] result in
      calls.end(job.unit.token)
      loops.leave(job.entry)
      complete(job, result)
      for next in order.ended(job) { send(next) }
    }
    calls.begin(job.unit.token, sending)
  }

  private func complete(_ job: WriteJob, _ result: Result<RemoteAnswer, Failure>) {
    switch result {
    case .failure(let failure): job.unit.fail(failure)
    case .success(let answer):
      switch WriteAnswer.of(answer, isDelete: job.isDelete, remote.settings) {
      case .success(let written): job.unit.applied(written.durability, absentCount: written.absentCount)
      case .failure(let failure): job.unit.fail(failure)
      }
    }
  }
}

/// The body of `POST receive`.
enum ReceiveRequest {
  /// `{"tx":["<uri>",<data>]}`: JSON as it is, byte for byte; bytes as the marker.
  static func body(_ op: bp_op) -> ByteBuffer {
    let isJSON = op.content == BP_CONTENT_JSON
    let size = Int(op.data.size)
    var buffer = ByteBufferAllocator().buffer(
      capacity: Int(op.uri.size) + 64 + (isJSON ? size : Base64.encodedCount(size) + 64))
    var text = Array("{\"tx\":[".utf8)
    JSONWriter.appendString(utf8: UnsafeRawBufferPointer(op.uri.bytes), to: &text)
    text.append(UInt8(ascii: ","))
    buffer.writeBytes(text)
    if isJSON {
      buffer.writeBytes(op.data.bytes)
    } else {
      var marker: [UInt8] = []
      BinaryMarker.append(UnsafeRawBufferPointer(op.data.bytes), to: &marker)
      buffer.writeBytes(marker)
    }
    buffer.writeStaticString("]}")
    return buffer
  }
}

/// What the remote says of a write.
struct WriteAnswer: Equatable {
  var durability: Durability
  var absentCount: Int

  static func of(_ answer: RemoteAnswer, isDelete: Bool, _ settings: Settings) -> Result<WriteAnswer, Failure> {
    switch answer.status {
    case 200:
      guard isAccepted(answer, isDelete: isDelete) else {
        if answer.isJSON, !ErrorText.of(answer).isEmpty {
          return .failure(Failure(code: BP_REJECTED, ErrorText.of(answer)))
        }
        return .failure(AnswerFailure.strange(answer, settings))
      }
      return .success(WriteAnswer(durability: durability(answer), absentCount: 0))
    case 404 where isDelete && answer.isJSON:
      // Nothing there: done. How safely it is gone, nobody said.
      return .success(WriteAnswer(durability: .memory, absentCount: 1))
    case 400: return .failure(Failure(code: BP_REJECTED, ErrorText.of(answer).orSentence("the other node refused it")))
    default: return .failure(AnswerFailure.of(answer, settings))
    }
  }

  private static func isAccepted(_ answer: RemoteAnswer, isDelete: Bool) -> Bool {
    answer.body.withUnsafeReadableBytes { bytes in
      guard case .success(let value) = JSONScanner().scan(bytes) else { return false }
      return value.member(isDelete ? "success" : "accepted")?.kind == .true
    }
  }

  /// Only what the remote has said; a peer says nothing.
  private static func durability(_ answer: RemoteAnswer) -> Durability {
    switch answer.headers.first(name: "x-backplane-durability") {
    case "os": .os
    case "disk": .disk
    case "quorum": .quorum
    default: .memory
    }
  }
}

extension String {
  func orSentence(_ other: String) -> String { isEmpty ? other : self }
}
