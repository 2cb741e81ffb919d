import JSONText
import NIOCore
import PluginAPI
import TransportSupport

/// The bytes of answers. This is the codec's outgoing half: heads are put together from ready-made pieces.
extension Connection {
  /// Writes one answer, head and body, into the loop's output buffer. `body` writes exactly `bodyLength` bytes.
  /// - Parameters:
  ///   - extra: whole header lines, each with its CRLF.
  ///   - timestampMs: of the record in the body, for another node; 0: not said.
  @inline(__always)
  func answer(
    _ status: Int, _ type: StaticString, bodyLength: Int, extra: StaticString = "", timestampMs: UInt64 = 0,
    retryAfterSeconds: UInt64 = 0, _ body: (inout ByteCursor) -> Void
  ) {
    let loop = loop
    loop.claimOutput(self)
    let request = current
    if !request.keepsAlive || ((loop.isDraining || closesWhenAnswered) && !hasWaiting) { isClosing = true }
    let sendsBody = request.method != .head
    let room =
      512 + type.utf8CodeUnitCount + extra.utf8CodeUnitCount + loop.commonHeaders.count
      + (request.origin?.utf8.count ?? 0) + (request.requestID?.utf8.count ?? 16) + (sendsBody ? bodyLength : 0)
    loop.output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { memory in
      var cursor = ByteCursor(memory)
      cursor.put(StatusLine.of(status))
      cursor.put("content-type: ")
      cursor.put(type)
      cursor.put("\r\ncontent-length: ")
      cursor.put(decimal: UInt64(bodyLength))
      cursor.put("\r\n")
      cursor.put(loop.commonHeaders)
      putRequestHeaders(request, &cursor)
      cursor.put(extra)
      if timestampMs > 0 {
        cursor.put("x-backplane-ts-ms: ")
        cursor.put(decimal: timestampMs)
        cursor.put("\r\n")
      }
      if retryAfterSeconds > 0 {
        cursor.put("retry-after: ")
        cursor.put(decimal: retryAfterSeconds)
        cursor.put("\r\n")
      }
      cursor.put("\r\n")
      if sendsBody {
        let start = cursor.next
        body(&cursor)
        // A wrong length would make the client misread every later answer.
        precondition(cursor.next - start == bodyLength, "an answer's body is not as long as its head says")
      }
      return UnsafeRawPointer(cursor.next) - UnsafeRawPointer(memory.baseAddress!)
    }
    count(status)
  }

  /// The headers that depend on the request: origin, id, the fate of the connection.
  @inline(__always)
  private func putRequestHeaders(_ request: Request, _ cursor: inout ByteCursor) {
    if loop.echoesOrigin, let origin = request.origin {
      cursor.put("access-control-allow-origin: ")
      cursor.put(origin)
      cursor.put("\r\n")
    }
    cursor.put("x-request-id: ")
    if let id = request.requestID { cursor.put(id) } else { cursor.put(hex: loop.makeRequestID()) }
    cursor.put("\r\n")
    if isClosing {
      cursor.put("connection: close\r\n")
    } else if request.isOldVersion {
      cursor.put("connection: keep-alive\r\n")
    }
  }

  @inline(__always)
  private func count(_ status: Int) {
    if status >= 500 {
      loop.counters.serverErrors += 1
    } else if status >= 400 {
      loop.counters.clientErrors += 1
    }
  }

  // MARK: Simple answers

  func answerJSON(_ status: Int, _ text: StaticString) {
    answer(status, "application/json", bodyLength: text.utf8CodeUnitCount) { $0.put(text) }
  }

  func answerJSON(_ status: Int, _ bytes: [UInt8], retryAfterSeconds: UInt64 = 0) {
    answer(status, "application/json", bodyLength: bytes.count, retryAfterSeconds: retryAfterSeconds) {
      $0.put(bytes)
    }
  }

  func answerText(_ status: Int, _ text: String, retryAfterSeconds: UInt64 = 0) {
    answer(
      status, "text/plain; charset=UTF-8", bodyLength: text.utf8.count, retryAfterSeconds: retryAfterSeconds
    ) { $0.put(text) }
  }

  func answerRefusal(_ reason: Refusal) {
    if reason.isDenial { return answerDenial(current) }
    answerText(reason.status, reason.text(loop.limits), retryAfterSeconds: reason.status == 503 ? 1 : 0)
  }

  /// CORS preflight: any path, no body, no type (b3nd.md section 2).
  func answerOptions() {
    let loop = loop
    loop.claimOutput(self)
    let request = current
    if !request.keepsAlive || ((loop.isDraining || closesWhenAnswered) && !hasWaiting) { isClosing = true }
    let asked = request.requestedHeaders.map { Self.headerList($0) } ?? []
    let room =
      512 + loop.commonHeaders.count + asked.count + (request.origin?.utf8.count ?? 0)
      + (request.requestID?.utf8.count ?? 16)
    loop.output.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { memory in
      var cursor = ByteCursor(memory)
      cursor.put("HTTP/1.1 204 No Content\r\naccess-control-allow-methods: GET,HEAD,PUT,POST,DELETE,PATCH\r\n")
      if !asked.isEmpty {
        cursor.put("access-control-allow-headers: ")
        cursor.put(asked)
        cursor.put("\r\nvary: Origin, Access-Control-Request-Headers\r\n")
      } else {
        cursor.put("vary: Origin\r\n")
      }
      cursor.put(loop.dateHeader)
      if !loop.echoesOrigin {
        cursor.put("access-control-allow-origin: ")
        cursor.put(loop.limits.corsOrigin)
        cursor.put("\r\n")
      }
      putRequestHeaders(request, &cursor)
      cursor.put("\r\n")
      return UnsafeRawPointer(cursor.next) - UnsafeRawPointer(memory.baseAddress!)
    }
  }

  /// A list of header names without the spaces around its commas.
  private static func headerList(_ text: String) -> [UInt8] { text.utf8.filter { $0 != 0x20 && $0 != 0x09 } }

  // MARK: Failures

  /// The error object of the current route.
  func errorBody(_ message: [UInt8]) -> [UInt8] {
    var body: [UInt8]
    switch route {
    case .receive: body = Array("{\"accepted\":false,\"error\":".utf8)
    case .delete, .list, .readMulti: body = Array("{\"success\":false,\"error\":".utf8)
    default: body = Array("{\"error\":".utf8)
    }
    message.withUnsafeBytes { JSONWriter.appendString(utf8: $0, to: &body) }
    body.append(UInt8(ascii: "}"))
    return body
  }

  func answerFailure(_ status: Int, _ message: String, retryAfterSeconds: UInt64 = 0) {
    answerJSON(status, errorBody(Array(message.utf8)), retryAfterSeconds: retryAfterSeconds)
  }

  func answerNotFound() {
    answerJSON(404, errorBody(Array("Not found: ".utf8) + currentURI()))
  }

  /// What a code other than `BP_OK` means to an HTTP client. Details of our own failures go to the log alone.
  func answerFailure(_ result: bp_result) {
    let message = result.message.text
    switch result.code {
    case BP_REJECTED, BP_FAILED_PRECONDITION, BP_INVALID_ARGUMENT:
      // A message can be put right; a delete that the schema forbids cannot.
      let isForbidden = route == .delete && result.code == BP_REJECTED
      answerFailure(isForbidden ? 403 : 400, message.isEmpty ? "The request was refused." : message)
    case BP_NOT_FOUND: answerNotFound()
    case BP_RESOURCE_EXHAUSTED, BP_UNAVAILABLE, BP_CLOSED, BP_DURABILITY:
      let seconds = max(1, (UInt64(result.retry_after_ms) + 999) / 1000)
      answerFailure(
        503, message.isEmpty ? "The node cannot do this now; try again later." : message, retryAfterSeconds: seconds)
    case BP_DEADLINE_EXCEEDED:
      answerFailure(504, message.isEmpty ? "The node did not finish in time." : message)
    default:
      loop.table.log.error(
        "a request failed",
        ["route": route.label, "code": "\(result.code)", "reason": message, "request_id": current.requestID ?? ""])
      answerText(500, "Internal Server Error")
    }
  }

  // MARK: Records

  func answerRead(_ read: UnsafePointer<bp_read_result>) {
    guard read.pointee.result.code == BP_OK else { return answerFailure(read.pointee.result) }
    let record = read.pointee.record
    let size = Int(record.data.size)
    guard record.content == BP_CONTENT_JSON else {
      // The media type comes from the URI, so that JSON may be named here; another node is told that these are bytes.
      let isForNode = current.isFromNode
      return answer(
        200, currentMediaType(), bodyLength: size, extra: isForNode ? "x-backplane-content: bytes\r\n" : "",
        timestampMs: isForNode ? record.ts_ms : 0
      ) { $0.put(record.data) }
    }
    let length = 6 + ByteCursor.digits(record.ts_ms) + 8 + size + 1
    answer(
      200, "application/json", bodyLength: length, extra: current.isFromNode ? "x-backplane-content: json\r\n" : ""
    ) { cursor in
      cursor.put("{\"ts\":")
      cursor.put(decimal: record.ts_ms)
      cursor.put(",\"data\":")
      cursor.put(record.data)
      cursor.put(byte: UInt8(ascii: "}"))
    }
  }

  /// Of receive and of delete.
  func answerWrite(_ write: UnsafePointer<bp_write_result>) {
    guard write.pointee.result.code == BP_OK else { return answerFailure(write.pointee.result) }
    let body: StaticString = route == .receive ? "{\"accepted\":true}" : "{\"success\":true}"
    answer(
      200, "application/json", bodyLength: body.utf8CodeUnitCount, extra: Self.durability(write.pointee.durability)
    ) { $0.put(body) }
  }

  private static func durability(_ value: UInt32) -> StaticString {
    switch value {
    case BP_DURABILITY_MEMORY: "x-backplane-durability: memory\r\n"
    case BP_DURABILITY_OS: "x-backplane-durability: os\r\n"
    case BP_DURABILITY_DISK: "x-backplane-durability: disk\r\n"
    case BP_DURABILITY_QUORUM: "x-backplane-durability: quorum\r\n"
    default: ""
    }
  }

  // MARK: Lists

  func answerList(_ list: UnsafePointer<bp_list_result>) {
    let code = list.pointee.result.code
    if code == BP_NOT_FOUND || code == BP_INVALID_ARGUMENT {
      // A program or a path that nobody knows has no records.
      return answerEmptyList(page: max(1, list.pointee.page), limit: max(1, list.pointee.limit))
    }
    guard code == BP_OK else { return answerFailure(list.pointee.result) }
    let uris = UnsafeBufferPointer(start: list.pointee.uris, count: Int(list.pointee.uris_count))
    let tail = Pagination(page: list.pointee.page, limit: list.pointee.limit, total: list.pointee.total)
    var length = Self.listStart.utf8CodeUnitCount + tail.length
    var isPlain = true
    for uri in uris {
      length += 11 + Int(uri.size)
      if isPlain, Self.needsEscapes(uri) { isPlain = false }
    }
    if !uris.isEmpty { length -= 1 }
    guard isPlain else { return answerEscapedList(uris, tail) }
    answer(200, "application/json", bodyLength: length) { cursor in
      cursor.put(Self.listStart)
      var isFirst = true
      for uri in uris {
        if !isFirst { cursor.put(byte: UInt8(ascii: ",")) }
        isFirst = false
        cursor.put("{\"uri\":\"")
        cursor.put(uri)
        cursor.put("\"}")
      }
      tail.put(&cursor)
    }
  }

  private static let listStart: StaticString = "{\"success\":true,\"data\":["

  private func answerEscapedList(_ uris: UnsafeBufferPointer<bp_view>, _ tail: Pagination) {
    var items: [UInt8] = []
    for uri in uris {
      if !items.isEmpty { items.append(UInt8(ascii: ",")) }
      items.append(contentsOf: "{\"uri\":".utf8)
      JSONWriter.appendString(uri.text, to: &items)
      items.append(UInt8(ascii: "}"))
    }
    answer(
      200, "application/json", bodyLength: Self.listStart.utf8CodeUnitCount + items.count + tail.length
    ) { cursor in
      cursor.put(Self.listStart)
      cursor.put(items)
      tail.put(&cursor)
    }
  }

  func answerEmptyList(page: UInt64, limit: UInt64) {
    let tail = Pagination(page: page, limit: limit, total: 0)
    answer(200, "application/json", bodyLength: Self.listStart.utf8CodeUnitCount + tail.length) { cursor in
      cursor.put(Self.listStart)
      tail.put(&cursor)
    }
  }

  private static func needsEscapes(_ view: bp_view) -> Bool {
    var found: UInt8 = 0
    for byte in view.bytes {
      found |= (byte < 0x20 || byte == 0x22 || byte == 0x5C || byte >= 0x80) ? 1 : 0
    }
    return found != 0
  }

  // MARK: Read-multi

  func answerMultiRefused(count: Int) {
    answerJSON(200, MultiReadShape.refused(count: count))
  }

  func answerMulti(_ multi: MultiRead<Connection>, _ result: UnsafePointer<bp_result>) {
    let code = result.pointee.code
    guard code == BP_OK || code == BP_NOT_FOUND else { return answerFailure(result.pointee) }
    let body = current.body ?? ByteBuffer()
    let items = multi.items
    let rendered = body.withUnsafeReadableBytes { bytes -> [UInt8] in
      guard case .success(let uris) = loop.scanner.scanURIs(bytes, countMax: items.count) else { return [] }
      return MultiReadShape.render(
        uris, items, marker: .withEncoding, sizeBytesMax: loop.limits.readMultiSizeBytesMax)
    }
    answerJSON(200, rendered)
  }
}

/// `],"pagination":{"page":P,"limit":L,"total":T}}`, the end of every list.
private struct Pagination {
  let page: UInt64
  let limit: UInt64
  let total: UInt64

  private static let pageName: StaticString = "],\"pagination\":{\"page\":"
  private static let limitName: StaticString = ",\"limit\":"
  private static let totalName: StaticString = ",\"total\":"
  private static let end: StaticString = "}}"

  var length: Int {
    Self.pageName.utf8CodeUnitCount + Self.limitName.utf8CodeUnitCount + Self.totalName.utf8CodeUnitCount
      + Self.end.utf8CodeUnitCount + ByteCursor.digits(page) + ByteCursor.digits(limit) + ByteCursor.digits(total)
  }

  func put(_ cursor: inout ByteCursor) {
    cursor.put(Self.pageName)
    cursor.put(decimal: page)
    cursor.put(Self.limitName)
    cursor.put(decimal: limit)
    cursor.put(Self.totalName)
    cursor.put(decimal: total)
    cursor.put(Self.end)
  }
}

enum StatusLine {
  @inline(__always)
  static func of(_ status: Int) -> StaticString {
    if status == 200 { return "HTTP/1.1 200 OK\r\n" }
    return other(status)
  }

  private static func other(_ status: Int) -> StaticString {
    switch status {
    case 400: "HTTP/1.1 400 Bad Request\r\n"
    case 401: "HTTP/1.1 401 Unauthorized\r\n"
    case 403: "HTTP/1.1 403 Forbidden\r\n"
    case 404: "HTTP/1.1 404 Not Found\r\n"
    case 408: "HTTP/1.1 408 Request Timeout\r\n"
    case 413: "HTTP/1.1 413 Content Too Large\r\n"
    case 414: "HTTP/1.1 414 URI Too Long\r\n"
    case 417: "HTTP/1.1 417 Expectation Failed\r\n"
    case 426: "HTTP/1.1 426 Upgrade Required\r\n"
    case 429: "HTTP/1.1 429 Too Many Requests\r\n"
    case 431: "HTTP/1.1 431 Request Header Fields Too Large\r\n"
    case 503: "HTTP/1.1 503 Service Unavailable\r\n"
    case 504: "HTTP/1.1 504 Gateway Timeout\r\n"
    case 505: "HTTP/1.1 505 HTTP Version Not Supported\r\n"
    default: "HTTP/1.1 500 Internal Server Error\r\n"
    }
  }
}
