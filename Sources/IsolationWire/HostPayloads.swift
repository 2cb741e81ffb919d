import BackplaneABI

// What a plugin tells its host.

extension Connection {
  @discardableResult
  public func sendLog(
    _ level: UInt32, _ message: bp_view, _ fields: UnsafePointer<bp_field>?, _ count: UInt32
  ) -> Outcome {
    // A log event may be lost; a completion that waits behind a flood of them may not.
    send(.log, 0, LogPayload(level: level, message: message, fields: fields, count: count), isUrgent: false)
  }

  @discardableResult
  public func sendRecord(_ handle: UInt32, _ value: Double) -> Outcome {
    send(.record, UInt64(handle), NumberPayload(value: value.bitPattern), isUrgent: false)
  }

  @discardableResult
  public func sendHealth(_ state: UInt32, _ message: bp_view) -> Outcome {
    send(.health, UInt64(state), BytesPayload(bytes: message), isUrgent: true)
  }

  @discardableResult
  public func sendConnections(_ count: UInt64) -> Outcome {
    send(.connections, 0, NumberPayload(value: count), isUrgent: true)
  }
}

struct BytesPayload: WirePayload {
  let bytes: bp_view
  @inline(__always) func put<Sink: WireSink>(into sink: inout Sink) { sink.put(bytes) }
}

private struct LogPayload: WirePayload {
  let level: UInt32
  let message: bp_view
  let fields: UnsafePointer<bp_field>?
  let count: UInt32

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(level)
    sink.put(message)
    sink.put(count)
    for index in 0..<Int(count) {
      sink.put(fields![index].key)
      sink.put(fields![index].value)
    }
  }
}

/// What a plugin told its host, as it was received. Views point into the payload.
public enum ReceivedReport {
  /// - Returns: false when the payload breaks the rules.
  public static func log(
    _ payload: UnsafeRawBufferPointer, _ body: (UInt32, bp_view, UnsafePointer<bp_field>?, UInt32) -> Void
  ) -> Bool {
    var reader = WireReader(payload)
    let level = reader.u32()
    let message = reader.view()
    let fields = (0..<reader.count(bytesEach: 8)).map { _ in bp_field(key: reader.view(), value: reader.view()) }
    guard reader.isWhole else { return false }
    fields.withUnsafeBufferPointer { body(level, message, $0.baseAddress, UInt32($0.count)) }
    return true
  }

  public static func bytes(_ payload: UnsafeRawBufferPointer) -> bp_view? {
    var reader = WireReader(payload)
    let bytes = reader.view()
    return reader.isWhole ? bytes : nil
  }
}
