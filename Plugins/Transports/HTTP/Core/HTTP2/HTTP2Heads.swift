import NIOCore
import NIOHPACK
import NIOHTTP1

/// The head of a request as HTTP/1.1 would have brought it. NIOHTTP2 has checked pseudo fields and names.
enum RequestHead {
  /// - Throws: `HTTPParserError.headerOverflow` when the fields are larger than they may be.
  static func make(_ fields: HPACKHeaders, limits: Limits) throws -> HTTPRequestHead {
    var method = HTTPMethod.GET
    var path = ""
    var headers = HTTPHeaders()
    headers.reserveCapacity(fields.count)
    var sizeBytes = 0
    for (name, value, _) in fields {
      if name.utf8.first == UInt8(ascii: ":") {
        switch name {
        case ":method": method = HTTPMethod(rawValue: value)
        case ":path": path = value
        case ":authority": headers.add(name: "host", value: value)
        default: break
        }
      } else {
        sizeBytes += name.utf8.count + value.utf8.count
        headers.add(name: name, value: value)
      }
    }
    guard sizeBytes <= limits.headerSizeBytesMax, headers.count <= 129 else { throw HTTPParserError.headerOverflow }
    return HTTPRequestHead(version: .http1_1, method: method, uri: path, headers: headers)
  }
}

/// The head of an answer, taken from the text that `Connection` wrote for HTTP/1.1.
enum AnswerHead {
  /// Takes one head off the front of `text`.
  /// - Returns: its fields, and whether it is the answer's own: `100 Continue` comes before that one.
  static func take(from text: inout ByteBuffer) -> (headers: HPACKHeaders, isFinal: Bool) {
    text.readWithUnsafeReadableBytes { bytes in
      // "HTTP/1.1 200 OK"
      let status = String(decoding: bytes[9..<12], as: UTF8.self)
      var headers = HPACKHeaders()
      headers.reserveCapacity(12)
      headers.add(name: ":status", value: status)
      var start = lineEnd(bytes, 0) + 2
      while true {
        let end = lineEnd(bytes, start)
        if end == start { break }
        add(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), to: &headers)
        start = end + 2
      }
      return (start + 2, (headers, bytes[9] != UInt8(ascii: "1")))
    }
  }

  private static func lineEnd(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
    guard let end = bytes[start...].firstIndex(of: UInt8(ascii: "\r")) else {
      preconditionFailure("an answer was cut off within its head")
    }
    return end
  }

  /// "name: value"; our names are in lower case.
  private static func add(_ line: UnsafeRawBufferPointer, to headers: inout HPACKHeaders) {
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return }
    let name = String(decoding: line[..<colon], as: UTF8.self)
    // HTTP/2 has no place for what is about one connection.
    guard name != "connection", name != "upgrade" else { return }
    // What changes with every answer would only push others out of the compressor's table.
    let changes = name == "x-request-id" || name == "content-length" || name == "x-backplane-ts-ms"
    headers.add(
      name: name, value: String(decoding: line[(colon + 2)...], as: UTF8.self),
      indexing: changes ? .nonIndexable : .indexable)
  }
}
