import JSONText
import PluginAPI

/// The answer of read-multi (b3nd.md section 7): results in the order of the request, and a summary.
public enum MultiReadShape {
  public static let urisCountMax = 50

  /// How bytes are marked: the peer's client sends `encoding` over HTTP and leaves it out over WebSocket.
  public enum Marker: Sendable { case withEncoding, withoutEncoding }

  /// - Parameter sizeBytesMax: what the items were collected with, for the sentence about those left out.
  public static func render(
    _ uris: [JSONSlice], _ items: [MultiReadItem], marker: Marker, sizeBytesMax: Int
  ) -> [UInt8] {
    let succeeded = items.filter { $0.code == BP_OK && !$0.isOmitted }.count
    var body = Array("{\"success\":\(succeeded > 0),\"results\":[".utf8)
    for (index, (uri, item)) in zip(uris, items).enumerated() {
      if index > 0 { body.append(UInt8(ascii: ",")) }
      body.append(contentsOf: "{\"uri\":".utf8)
      // As the client wrote it.
      body.append(contentsOf: uri.bytes)
      if item.code == BP_OK, !item.isOmitted {
        appendRecord(item, marker, to: &body)
      } else {
        body.append(contentsOf: ",\"success\":false,\"error\":".utf8)
        JSONWriter.appendString(errorText(uri, item, sizeBytesMax), to: &body)
        body.append(UInt8(ascii: "}"))
      }
    }
    body.append(
      contentsOf:
        "],\"summary\":{\"total\":\(items.count),\"succeeded\":\(succeeded),\"failed\":\(items.count - succeeded)}}"
        .utf8)
    return body
  }

  private static func appendRecord(_ item: MultiReadItem, _ marker: Marker, to body: inout [UInt8]) {
    body.append(contentsOf: ",\"success\":true,\"record\":{\"ts\":\(item.timestampMs),\"data\":".utf8)
    if item.isJSON {
      body.append(contentsOf: item.data)
    } else {
      // There is no other way to put bytes into this answer: the marker that receive takes.
      item.data.withUnsafeBytes { BinaryMarker.append($0, hasEncoding: marker == .withEncoding, to: &body) }
    }
    body.append(contentsOf: "}}".utf8)
  }

  /// The answer to no URI, or to more than `urisCountMax` of them.
  public static func refused(count: Int) -> [UInt8] {
    Array(
      "{\"success\":false,\"results\":[],\"summary\":{\"total\":\(count),\"succeeded\":0,\"failed\":\(count)}}"
        .utf8)
  }

  private static func errorText(_ uri: JSONSlice, _ item: MultiReadItem, _ sizeBytesMax: Int) -> String {
    if item.isOmitted { return "Left out: the answer would hold more than \(sizeBytesMax) bytes of records" }
    switch item.code {
    case BP_NOT_FOUND, BP_INVALID_ARGUMENT: return "Not found: \(uri.text ?? "")"
    case BP_UNAVAILABLE, BP_RESOURCE_EXHAUSTED, BP_DEADLINE_EXCEEDED:
      return item.message.isEmpty ? "Not available now" : item.message
    default: return "Internal Server Error"
    }
  }
}
