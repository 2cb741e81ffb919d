/// The Content-Type of a record of bytes, from the text after the last dot of its URI (b3nd.md section 5).
enum MediaType {
  /// - Parameter tail: everything after `://`, as it stood in the request path.
  static func of(_ tail: UnsafeBufferPointer<UInt8>) -> StaticString {
    guard let dot = tail.lastIndex(of: UInt8(ascii: ".")) else { return unknown }
    let count = tail.count - dot - 1
    // Longer than any name in the table, or a dot in a directory: no need to look.
    guard (2...5).contains(count) else { return unknown }
    let name = String(unsafeUninitializedCapacity: count) { text in
      for index in 0..<count {
        let byte = tail[dot + 1 + index]
        text[index] = byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte
      }
      return count
    }
    return known(name) ?? unknown
  }

  static let unknown: StaticString = "application/octet-stream"

  private static func known(_ name: String) -> StaticString? {
    switch name {
    case "html", "htm": "text/html"
    case "css": "text/css"
    case "js", "mjs": "application/javascript"
    case "json": "application/json"
    case "xml": "application/xml"
    case "txt": "text/plain"
    case "md": "text/markdown"
    case "csv": "text/csv"
    case "png": "image/png"
    case "gif": "image/gif"
    case "webp": "image/webp"
    case "avif": "image/avif"
    case "jpg", "jpeg": "image/jpeg"
    case "svg": "image/svg+xml"
    case "ico": "image/x-icon"
    case "woff": "font/woff"
    case "woff2": "font/woff2"
    case "ttf": "font/ttf"
    case "otf": "font/otf"
    case "eot": "application/vnd.ms-fontobject"
    case "mp3": "audio/mpeg"
    case "ogg": "audio/ogg"
    case "wav": "audio/wav"
    case "mp4": "video/mp4"
    case "webm": "video/webm"
    case "wasm": "application/wasm"
    case "pdf": "application/pdf"
    case "zip": "application/zip"
    case "gz": "application/gzip"
    case "tar": "application/x-tar"
    default: nil
    }
  }
}
