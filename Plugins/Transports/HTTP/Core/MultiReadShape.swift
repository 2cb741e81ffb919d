import JSONText
import PluginAPI

/// The answer of read-multi (b3nd.md section 7): results in the order of the request, and a summary.
enum MultiReadShape {
  static let urisCountMax = 50

  static func render(_ uris: [JSONSlice], _ items: [MultiRead.Item], sizeBytesMax: Int) -> [UInt8] {
    let succeeded = items.filter { $0.code == BP_OK && !$0.isOmitted }.count
    var body = Array("{\"success\":\(succeeded > 0),\"results\":[".utf8)
    for (index, (uri, item)) in zip(uris, items).enumerated() {
      if index > 0 { body.append(UInt8(ascii: ",")) }
      body.append(contentsOf: "{\"uri\":".utf8)
      // As the client wrote it.
      body.append(contentsOf: uri.bytes)
      if item.code == BP_OK, !item.isOmitted {
        appendRecord(item, to: &body)
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

  private static func appendRecord(_ item: MultiRead.Item, to body: inout [UInt8]) {
    body.append(contentsOf: ",\"success\":true,\"record\":{\"ts\":\(item.timestampMs),\"data\":".utf8)
    if item.isJSON {
      body.append(contentsOf: item.data)
    } else {
      // HTTP has no other way to put bytes into this answer: the marker that receive takes.
      body.append(contentsOf: "{\"__b3nd_binary__\":true,\"encoding\":\"base64\",\"data\":\"".utf8)
      item.data.withUnsafeBytes { Base64.encode($0, into: &body) }
      body.append(contentsOf: "\"}".utf8)
    }
    body.append(contentsOf: "}}".utf8)
  }

  private static func errorText(_ uri: JSONSlice, _ item: MultiRead.Item, _ sizeBytesMax: Int) -> String {
    if item.isOmitted { return "Left out: the answer would hold more than \(sizeBytesMax) bytes of records" }
    switch item.code {
    case BP_NOT_FOUND, BP_INVALID_ARGUMENT: return "Not found: \(uri.text ?? "")"
    case BP_UNAVAILABLE, BP_RESOURCE_EXHAUSTED, BP_DEADLINE_EXCEEDED:
      return item.message.isEmpty ? "Not available now" : item.message
    default: return "Internal Server Error"
    }
  }
}
