import CPostgreSQL
import PluginAPI

/// What can be proven without a server.
enum SelfTest {
  static func run() throws {
    func check(_ condition: Bool, _ sentence: String) throws {
      guard condition else { throw Failure.internal("the self-test failed: \(sentence)") }
    }
    try check(PQlibVersion() >= 140_000, "libpq is \(PQlibVersion()); the backend needs 14 or newer, for its pipelines")
    try check(PQisthreadsafe() == 1, "libpq was built without threads")
    let url = try ConnectionURL.parse("postgresql://someone:secret@127.0.0.1:5432/records?sslmode=disable").get()
    try check(url.place == "127.0.0.1:5432/records", "a URL was not read as it was written")
    try check(!url.redacted("no secret").contains("secret"), "a password was not left out")
    let text = Array(#"{"a":"\u0000\ud83d\ude00\ud83d"}"#.utf8)
    let shown = text.withView { PeerValue.replacingEscapes($0.bytes) }
    try check(
      shown == Array(#"{"a":"\ufffd\ud83d\ude00\ufffd"}"#.utf8), "what jsonb refuses was not replaced")
  }
}
