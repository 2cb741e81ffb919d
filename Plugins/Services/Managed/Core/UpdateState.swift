import JSONText
import ManagedNode

/// What has been done about updates, across restarts.
struct UpdateState: Equatable, Sendable {
  private static let file = "updates.json"

  /// The version that was announced last.
  var announced = ""
  /// The manifest that `outcome` is about: version, URL and checksum.
  var manifest = ""
  /// `staged`, `applied`, `failed`, `rolled_back`; empty: nothing yet.
  var outcome = ""
  /// Why it was not taken; empty unless it failed or was rolled back.
  var reason = ""

  init() {}

  init(_ files: StateFiles) {
    guard let bytes = files.read(Self.file) else { return }
    bytes.withUnsafeBytes { bytes in
      guard case .success(let value) = JSONScanner().scan(bytes) else { return }
      announced = value.member("announced")?.text ?? ""
      manifest = value.member("manifest")?.text ?? ""
      outcome = value.member("outcome")?.text ?? ""
      reason = value.member("reason")?.text ?? ""
    }
  }

  func save(_ files: StateFiles) throws(Trouble) {
    var text: [UInt8] = []
    let members = [("announced", announced), ("manifest", manifest), ("outcome", outcome), ("reason", reason)]
    for (name, value) in members {
      text += Array(text.isEmpty ? "{\"\(name)\":".utf8 : ",\"\(name)\":".utf8)
      JSONWriter.appendString(value, to: &text)
    }
    try files.write(Self.file, text + Array("}".utf8))
  }

  static func key(_ manifest: UpdateManifest) -> String {
    [manifest.version, manifest.moduleUrl, manifest.checksum ?? ""].joined(separator: "\n")
  }
}
