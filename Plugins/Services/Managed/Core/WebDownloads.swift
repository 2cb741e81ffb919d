import NIOCore
import NIOHTTP1

/// Files over http and https.
struct WebDownloads: Downloading {
  let client: WebClient

  func download(_ url: String, unlessTag: String?) async throws(Trouble) -> Download {
    var headers: HTTPHeaders = ["accept": "*/*"]
    if let unlessTag { headers.add(name: "if-none-match", value: unlessTag) }
    let answer = try await client.ask(.GET, url, headers, name: SourceURL.shown(url))
    switch answer.status {
    case 200: return .file(Array(answer.body.readableBytesView), entityTag: answer.headers.first(name: "etag"))
    case 304 where unlessTag != nil: return .unchanged
    case let status: throw Trouble("\(SourceURL.shown(url)) answers with status \(status)")
    }
  }
}
