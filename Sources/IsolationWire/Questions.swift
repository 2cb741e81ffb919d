import BackplaneABI

// The questions that one side asks and waits for, each with its answer.

private struct MetricPayload: WirePayload {
  let metric: UnsafePointer<bp_metric>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(metric.pointee.type)
    sink.put(metric.pointee.name)
    sink.put(metric.pointee.help)
    sink.put(metric.pointee.unit)
    sink.put(metric.pointee.labels_count)
    for index in 0..<Int(metric.pointee.labels_count) {
      sink.put(metric.pointee.labels[index].key)
      sink.put(metric.pointee.labels[index].value)
    }
  }
}

private struct CodePayload: WirePayload {
  var code: bp_code
  var number: UInt64 = 0
  var bytes = bp_view()
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(code)
    sink.put(number)
    sink.put(bytes)
  }
}

private struct TwoNumbersPayload: WirePayload {
  let first: UInt64
  let second: UInt64
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(first)
    sink.put(second)
  }
}

private struct ListPayload: WirePayload {
  let flags: UInt32
  let state: UInt32
  /// Each entry is a run of views.
  let entries: [[[UInt8]]]
  let numbers: [UInt32]
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(flags)
    sink.put(state)
    sink.put(UInt32(entries.count))
    for (entry, number) in zip(entries, numbers) {
      sink.put(number)
      for part in entry {
        part.withUnsafeBufferPointer { sink.put(bp_view(data: $0.baseAddress, size: UInt64($0.count))) }
      }
    }
  }
}

extension bp_view {
  var array: [UInt8] { Array(UnsafeBufferPointer(start: data, count: Int(size))) }
}

/// The plugin's side of the questions to the kernel.
extension AskingSocket {
  private func code(
    _ kind: FrameKind, _ payload: some WirePayload
  ) -> (code: bp_code, number: UInt64, bytes: [UInt8], descriptor: Int32) {
    guard let reply = try? ask(kind, payload) else { return (BP_UNAVAILABLE, 0, [], -1) }
    return reply.bytes.withUnsafeBytes { bytes in
      var reader = WireReader(bytes)
      let answer = (reader.u32(), reader.u64(), reader.view().array)
      guard reader.isWhole else { return (BP_INTERNAL, 0, [], reply.descriptor) }
      return (answer.0, answer.1, answer.2, reply.descriptor)
    }
  }

  public func askMetric(_ metric: UnsafePointer<bp_metric>) -> (code: bp_code, handle: UInt32) {
    let answer = code(.askMetric, MetricPayload(metric: metric))
    return (answer.code, UInt32(truncatingIfNeeded: answer.number))
  }

  public func askGrant(_ token: bp_token, credits: UInt32) -> bp_code {
    code(.askGrant, TwoNumbersPayload(first: token, second: UInt64(credits))).code
  }

  public func askBorrow(_ name: bp_view) -> (code: bp_code, descriptor: Int32, port: UInt32) {
    let answer = code(.askBorrow, BytesPayload(bytes: name))
    guard answer.code != BP_OK || answer.descriptor >= 0 else { return (BP_RESOURCE_EXHAUSTED, -1, 0) }
    return (answer.code, answer.descriptor, UInt32(truncatingIfNeeded: answer.number))
  }

  public func askMetricsText() -> [UInt8] { code(.askMetrics, NoPayload()).bytes }

  private func list(
    _ kind: FrameKind, parts: Int
  ) -> (flags: UInt32, state: UInt32, entries: [(number: UInt32, parts: [[UInt8]])])? {
    guard let reply = try? ask(kind, NoPayload()) else { return nil }
    return reply.bytes.withUnsafeBytes { bytes in
      var reader = WireReader(bytes)
      let flags = reader.u32()
      let state = reader.u32()
      let entries = (0..<reader.count(bytesEach: 4 + 4 * parts)).map { _ in
        (number: reader.u32(), parts: (0..<parts).map { _ in reader.view().array })
      }
      return reader.isWhole ? (flags, state, entries) : nil
    }
  }

  public func askPrograms() -> [[UInt8]] { list(.askPrograms, parts: 1)?.entries.map { $0.parts[0] } ?? [] }

  /// Each slot: its state, and slot, kind, plugin, version, scheme, message.
  public func askHealth() -> (flags: UInt32, state: UInt32, slots: [(state: UInt32, texts: [[UInt8]])])? {
    list(.askHealth, parts: 6).map { answer in
      (answer.flags, answer.state, answer.entries.map { ($0.number, $0.parts) })
    }
  }
}

/// The kernel's side of the questions from a plugin.
extension AskingSocket {
  public func replyCode(
    _ question: Question, _ code: bp_code, number: UInt64 = 0, bytes: [UInt8] = [], descriptor: Int32 = -1
  ) -> Bool {
    bytes.withUnsafeBufferPointer {
      reply(
        question.id,
        CodePayload(code: code, number: number, bytes: bp_view(data: $0.baseAddress, size: UInt64($0.count))),
        descriptor: descriptor)
    }
  }

  public func replyPrograms(_ question: Question, _ keys: [[UInt8]]) -> Bool {
    reply(
      question.id,
      ListPayload(flags: 0, state: 0, entries: keys.map { [$0] }, numbers: Array(repeating: 0, count: keys.count)))
  }

  public func replyHealth(
    _ question: Question, flags: UInt32, state: UInt32, _ slots: [(state: UInt32, texts: [[UInt8]])]
  ) -> Bool {
    reply(
      question.id,
      ListPayload(flags: flags, state: state, entries: slots.map(\.texts), numbers: slots.map(\.state)))
  }
}

/// The kernel's question to a schema, and the schema's side of it.
extension AskingSocket {
  /// The canonical form of `uri`; empty when it is canonical already.
  public func askCanonical(_ uri: bp_view) throws(Failure) -> (code: bp_code, bytes: [UInt8]) {
    let reply = try ask(.askCanonical, BytesPayload(bytes: uri))
    let answer = reply.bytes.withUnsafeBytes { bytes -> (bp_code, [UInt8])? in
      var reader = WireReader(bytes)
      let code = reader.u32()
      _ = reader.u64()
      let form = reader.view().array
      return reader.isWhole ? (code, form) : nil
    }
    if reply.descriptor >= 0 { closeUnwanted(reply.descriptor) }
    guard let answer else { throw .closed }
    return answer
  }
}

extension AskingSocket.Question {
  public func metric(_ body: (UnsafePointer<bp_metric>) -> (bp_code, UInt32)) -> (code: bp_code, handle: UInt32)? {
    payload.withUnsafeBytes { bytes in
      var reader = WireReader(bytes)
      var metric = bp_metric()
      metric.size = UInt32(MemoryLayout<bp_metric>.size)
      metric.type = reader.u32()
      metric.name = reader.view()
      metric.help = reader.view()
      metric.unit = reader.view()
      let labels = (0..<reader.count(bytesEach: 8)).map { _ in bp_field(key: reader.view(), value: reader.view()) }
      guard reader.isWhole else { return nil }
      return labels.withUnsafeBufferPointer { labels in
        metric.labels = labels.baseAddress
        metric.labels_count = UInt32(labels.count)
        return body(&metric)
      }
    }
  }

  public func bytes<R>(_ body: (bp_view) -> R) -> R? {
    payload.withUnsafeBytes { bytes in
      var reader = WireReader(bytes)
      let view = reader.view()
      return reader.isWhole ? body(view) : nil
    }
  }

  public var numbers: (UInt64, UInt64)? {
    payload.withUnsafeBytes { bytes in
      var reader = WireReader(bytes)
      let numbers = (reader.u64(), reader.u64())
      return reader.isWhole ? numbers : nil
    }
  }
}
