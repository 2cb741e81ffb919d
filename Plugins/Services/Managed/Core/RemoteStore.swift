import JSONText
import NIOCore
import NIOHTTP1

/// Records in another node, over the B3nd HTTP API.
struct RemoteStore: ManagementStore {
  /// A configuration, with the schema that may stand in it.
  static let recordSizeBytesMax = 4 << 20

  let place: ConfigurationPlace
  let client: WebClient

  var name: String { place.text }

  private var headers: HTTPHeaders {
    var headers: HTTPHeaders = ["accept": "application/json"]
    if let authorization = place.authorization { headers.add(name: "authorization", value: authorization) }
    return headers
  }

  func read(_ uri: String) async throws(Trouble) -> StoredRecord? {
    let path = uri.replacing("://", with: "/", maxReplacements: 1)
    let answer = try await client.ask(.GET, "\(name)/api/v1/read/\(path)", headers, name: name)
    switch answer.status {
    case 200: break
    case 404 where answer.mediaType == "application/json": return nil
    default: throw strange(answer)
    }
    guard answer.mediaType == "application/json" else { throw strange(answer) }
    let record = answer.body.withUnsafeReadableBytes { bytes -> StoredRecord? in
      guard case .success(let value) = JSONScanner().scan(bytes), let data = value.member("data"),
        let timestamp = value.member("ts").flatMap({ JSONNumber.value(of: $0) })
      else { return nil }
      return StoredRecord(data: Array(data.bytes), timestampMs: timestamp)
    }
    guard let record else { throw strange(answer) }
    return record
  }

  func write(_ uri: String, _ data: [UInt8]) async throws(Trouble) {
    var body = Array(#"{"tx":["#.utf8)
    JSONWriter.appendString(uri, to: &body)
    body.append(UInt8(ascii: ","))
    body += data
    body += Array("]}".utf8)
    var headers = headers
    headers.add(name: "content-type", value: "application/json")
    let answer = try await client.ask(.POST, "\(name)/api/v1/receive", headers, body: body, name: name)
    let said = answer.body.withUnsafeReadableBytes { bytes -> (isAccepted: Bool, text: String?) in
      guard case .success(let value) = JSONScanner().scan(bytes) else { return (false, nil) }
      return (value.member("accepted")?.kind == .true, value.member("error")?.text)
    }
    if answer.status == 200, said.isAccepted { return }
    if let text = said.text, !text.isEmpty { throw Trouble("\(name) refuses it: \(text.prefix(300))", isRefusal: true) }
    throw strange(answer)
  }

  private func strange(_ answer: WebAnswer) -> Trouble {
    switch answer.status {
    case 300...399: Trouble("\(name) answers with a redirect, which is not followed; give the address it leads to")
    case 401, 403, 407:
      Trouble("\(name) refuses the credentials of config_url or config_token, or wants some (status \(answer.status))")
    case 404, 405: Trouble("no node answers at \(name) (status \(answer.status))")
    case 500...599, 408, 429: Trouble("\(name) answers with status \(answer.status)")
    default:
      Trouble(
        "\(name) gives an answer that is no node's (status \(answer.status), \(answer.mediaType.prefix(100)), "
          + "\(answer.body.readableBytes) bytes)")
    }
  }
}
