import JSONText
import NIOCore
import PluginAPI
import TransportSupport

/// The bytes of answers and of control frames.
extension WebSocketConnection {
  // MARK: Frames

  /// Writes one text frame. `body` writes exactly `length` bytes.
  @inline(__always)
  func sendText(length: Int, _ body: (inout ByteCursor) -> Void) {
    guard state == .open else { return }
    loop.claimOutput(self)
    loop.output.writeWithUnsafeMutableBytes(minimumWritableBytes: length + 10) { memory in
      var cursor = ByteCursor(memory)
      Self.putHead(0x81, length, &cursor)
      let start = cursor.next
      body(&cursor)
      // A wrong length would make the client misread every later frame.
      precondition(cursor.next - start == length, "a frame is not as long as its head says")
      return UnsafeRawPointer(cursor.next) - UnsafeRawPointer(memory.baseAddress!)
    }
  }

  private static func putHead(_ first: UInt8, _ length: Int, _ cursor: inout ByteCursor) {
    cursor.put(byte: first)
    if length < 126 {
      cursor.put(byte: UInt8(length))
    } else if length < 65_536 {
      cursor.put(byte: 126)
      cursor.put(byte: UInt8(length >> 8))
      cursor.put(byte: UInt8(length & 0xFF))
    } else {
      cursor.put(byte: 127)
      for shift in stride(from: 56, through: 0, by: -8) {
        cursor.put(byte: UInt8(truncatingIfNeeded: UInt64(length) >> UInt64(shift)))
      }
    }
  }

  private func sendControl(_ first: UInt8, _ data: [UInt8]) {
    loop.claimOutput(self)
    loop.output.writeWithUnsafeMutableBytes(minimumWritableBytes: 2 + data.count) { memory in
      var cursor = ByteCursor(memory)
      Self.putHead(first, data.count, &cursor)
      cursor.put(data)
      return 2 + data.count
    }
  }

  func sendPing() { sendControl(0x89, []) }

  func sendPong(_ data: ByteBuffer) { sendControl(0x8A, Array(data.readableBytesView)) }

  /// - Parameter code: nil: a close frame without one.
  func sendClose(_ code: UInt16?, _ reason: String) {
    guard let code else { return sendControl(0x88, []) }
    var data = [UInt8(code >> 8), UInt8(code & 0xFF)]
    for character in reason where data.count + character.utf8.count <= 125 { data += Array(character.utf8) }
    sendControl(0x88, data)
  }

  // MARK: Envelopes

  private static let idName: StaticString = "{\"id\":"
  private static let dataName: StaticString = ",\"success\":true,\"data\":"

  /// `{"id":ID,"success":true,"data":DATA}`; `body` writes DATA, exactly `length` bytes.
  @inline(__always)
  func answer(_ id: UnsafeRawBufferPointer, length: Int, _ body: (inout ByteCursor) -> Void) {
    let around = Self.idName.utf8CodeUnitCount + id.count + Self.dataName.utf8CodeUnitCount + 1
    sendText(length: around + length) { cursor in
      cursor.put(Self.idName)
      cursor.put(id)
      cursor.put(Self.dataName)
      body(&cursor)
      cursor.put(byte: UInt8(ascii: "}"))
    }
  }

  func answer(_ id: UnsafeRawBufferPointer, _ data: [UInt8]) {
    answer(id, length: data.count) { $0.put(data) }
  }

  func answer(_ id: UnsafeRawBufferPointer, _ data: StaticString) {
    answer(id, length: data.utf8CodeUnitCount) { $0.put(data) }
  }

  /// `{"id":ID,"success":false,"error":TEXT}`.
  func fail(_ id: UnsafeRawBufferPointer, _ message: String) {
    loop.counters.failures += 1
    var body = Array(",\"success\":false,\"error\":".utf8)
    JSONWriter.appendString(message, to: &body)
    body.append(UInt8(ascii: "}"))
    sendText(length: Self.idName.utf8CodeUnitCount + id.count + body.count) { cursor in
      cursor.put(Self.idName)
      cursor.put(id)
      cursor.put(body)
    }
  }

  /// What a code other than `BP_OK` means when the answer has no place for it. Details of our own failures go to the log.
  private func fail(_ call: NodeCall, _ result: bp_result) {
    let message = result.message.text
    let text: String
    switch result.code {
    case BP_REJECTED, BP_FAILED_PRECONDITION, BP_INVALID_ARGUMENT:
      text = message.isEmpty ? "The request was refused." : message
    case BP_RESOURCE_EXHAUSTED, BP_UNAVAILABLE, BP_CLOSED, BP_DURABILITY:
      text = message.isEmpty ? "The node cannot do this now; try again later." : message
    case BP_DEADLINE_EXCEEDED: text = message.isEmpty ? "The node did not finish in time." : message
    default:
      loop.table.log.error(
        "a request failed", ["type": call.kind.label, "code": "\(result.code)", "reason": message])
      text = "Internal Server Error"
    }
    call.withID { fail($0, text) }
  }

  // MARK: Receive and delete

  func answerAccepted(_ id: UnsafeRawBufferPointer, error: String) {
    answerRefused(id, "{\"accepted\":false,\"error\":", error)
  }

  private func answerRefused(_ id: UnsafeRawBufferPointer, _ head: StaticString, _ error: String) {
    var body: [UInt8] = []
    JSONWriter.appendString(error, to: &body)
    answer(id, length: head.utf8CodeUnitCount + body.count + 1) { cursor in
      cursor.put(head)
      cursor.put(body)
      cursor.put(byte: UInt8(ascii: "}"))
    }
  }

  func answerWrite(_ call: NodeCall, _ write: UnsafePointer<bp_write_result>) {
    let result = write.pointee.result
    let isReceive = call.kind == .receive
    switch result.code {
    case BP_OK: call.withID { answer($0, isReceive ? "{\"accepted\":true}" : "{\"success\":true}") }
    case BP_NOT_FOUND where !isReceive: answerNotFound(call)
    case BP_REJECTED, BP_FAILED_PRECONDITION, BP_INVALID_ARGUMENT:
      let text = result.message.size == 0 ? "The request was refused." : result.message.text
      call.withID {
        answerRefused($0, isReceive ? "{\"accepted\":false,\"error\":" : "{\"success\":false,\"error\":", text)
      }
    default: fail(call, result)
    }
  }

  // MARK: Records

  /// `{"success":false,"error":"Not found: URI"}`, the URI as the client wrote it.
  private func answerNotFound(_ call: NodeCall) {
    let head: StaticString = "{\"success\":false,\"error\":\"Not found: "
    call.withID { id in
      call.withURI { uri in
        answer(id, length: head.utf8CodeUnitCount + uri.count + 2) { cursor in
          cursor.put(head)
          cursor.put(uri)
          cursor.put("\"}")
        }
      }
    }
  }

  private static let recordHead: StaticString = "{\"success\":true,\"record\":{\"ts\":"
  private static let recordData: StaticString = ",\"data\":"

  func answerRead(_ call: NodeCall, _ read: UnsafePointer<bp_read_result>) {
    switch read.pointee.result.code {
    case BP_OK: break
    case BP_NOT_FOUND, BP_INVALID_ARGUMENT: return answerNotFound(call)
    default: return fail(call, read.pointee.result)
    }
    let record = read.pointee.record
    if record.content == BP_CONTENT_JSON {
      return call.withID { answerRecord($0, record.ts_ms, record.data) }
    }
    var marker: [UInt8] = []
    BinaryMarker.append(UnsafeRawBufferPointer(record.data.bytes), hasEncoding: false, to: &marker)
    call.withID { id in marker.withView { answerRecord(id, record.ts_ms, $0) } }
  }

  private func answerRecord(_ id: UnsafeRawBufferPointer, _ timestampMs: UInt64, _ data: bp_view) {
    let length =
      Self.recordHead.utf8CodeUnitCount + ByteCursor.digits(timestampMs) + Self.recordData.utf8CodeUnitCount
      + Int(data.size) + 2
    answer(id, length: length) { cursor in
      cursor.put(Self.recordHead)
      cursor.put(decimal: timestampMs)
      cursor.put(Self.recordData)
      cursor.put(data)
      cursor.put("}}")
    }
  }

  func answerMulti(_ call: NodeCall, _ multi: MultiRead<NodeCall>, _ result: UnsafePointer<bp_result>) {
    let code = result.pointee.code
    guard code == BP_OK || code == BP_NOT_FOUND else { return fail(call, result.pointee) }
    let items = multi.items
    let rendered = (call.message ?? ByteBuffer()).withUnsafeReadableBytes { bytes -> [UInt8] in
      guard case .success(.some(let frame)) = loop.scanner.scanRequest(bytes), let payload = frame.payload,
        case .success(let uris) = loop.scanner.scanURIs(payload.bytes, countMax: items.count)
      else { return Array("null".utf8) }
      return MultiReadShape.render(
        uris, items, marker: .withoutEncoding, sizeBytesMax: loop.limits.readMultiSizeBytesMax)
    }
    call.withID { answer($0, rendered) }
  }

  // MARK: Lists

  func answerList(_ call: NodeCall, _ list: UnsafePointer<bp_list_result>) {
    let code = list.pointee.result.code
    // A program or a path that nobody knows has no records.
    let isEmpty = code == BP_NOT_FOUND || code == BP_INVALID_ARGUMENT
    guard code == BP_OK || isEmpty else { return fail(call, list.pointee.result) }
    loop.bodyScratch.removeAll(keepingCapacity: loop.bodyScratch.capacity <= 1 << 20)
    loop.bodyScratch.append(contentsOf: "{\"success\":true,\"data\":[".utf8)
    let uris = UnsafeBufferPointer(start: list.pointee.uris, count: isEmpty ? 0 : Int(list.pointee.uris_count))
    for (index, uri) in uris.enumerated() {
      loop.bodyScratch.append(contentsOf: index == 0 ? "{\"uri\":".utf8 : ",{\"uri\":".utf8)
      JSONWriter.appendString(utf8: UnsafeRawBufferPointer(uri.bytes), to: &loop.bodyScratch)
      loop.bodyScratch.append(UInt8(ascii: "}"))
    }
    let total = isEmpty ? 0 : list.pointee.total
    let (page, limit) = (max(1, list.pointee.page), max(1, list.pointee.limit))
    loop.bodyScratch.append(
      contentsOf: "],\"pagination\":{\"page\":\(page),\"limit\":\(limit),\"total\":\(total)}}".utf8)
    let body = loop.bodyScratch
    call.withID { answer($0, body) }
  }
}
