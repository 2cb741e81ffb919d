import BackendTesting
import Glibc
import PluginAPI
import PostgreSQLBackend
import ServerTesting
import Testing

/// Bad input gives a sentence that names what to fix, and never a secret.
@Suite struct RefusalTests {
  private static func refusal(_ url: String, _ settings: String = "") -> String {
    do {
      try Fixture.started(url, settings).stop()
      return "(it started)"
    } catch { return "\(error)" }
  }

  private static func configured(_ configuration: String) -> String {
    do {
      _ = try TestBackend(PostgreSQLBackend.self, configuration)
      return "(it was accepted)"
    } catch { return "\(error)" }
  }

  // MARK: Configuration

  @Test(arguments: [
    (#"{}"#, "/url: ", "begins with postgresql://"),
    (#"{"url":"mysql://h/d"}"#, "/url: ", "begins with postgresql://"),
    (#"{"url":"postgresql://h/d?sslmod=require"}"#, "/url: ", "\"sslmod\""),
    (#"{"url":"postgresql://h/d?table_prefix=x"}"#, "/url: ", "keys of the slot"),
    (#"{"url":"postgresql://u:s3cret%zz@h/d"}"#, "/url: ", "write %25"),
    (#"{"url":"postgresql://u:s3cret/x@h/d"}"#, "/url: ", "percent-encode"),
    (#"{"url":"postgresql://u:s3cret@x@h/d"}"#, "/url: ", "percent-encode"),
    (#"{"url":"postgresql://u:s3cret?x@h/d"}"#, "/url: ", "percent-encode"),
    (#"{"url":"postgresql://h:s3cret/d"}"#, "/url: ", "no number"),
    (#"{"url":"postgresql://h:70000/d"}"#, "/url: ", "65535"),
    (#"{"url":"postgresql://[::1/d"}"#, "/url: ", "percent-encode"),
    (#"{"url":"postgresql://h/d","table_prefix":"1a"}"#, "/table_prefix: ", "a letter"),
    (#"{"url":"postgresql://h/d","table_prefix":""}"#, "/table_prefix: ", "a letter"),
    (#"{"url":"postgresql://h/d","table_prefix":"a; DROP TABLE x"}"#, "/table_prefix: ", "a letter"),
    (#"{"url":"postgresql://h/d","table_prefix":"é"}"#, "/table_prefix: ", "a letter"),
    (
      #"{"url":"postgresql://h/d","table_prefix":"a23456789012345678901234567890123456789"}"#, "/table_prefix: ", "38"
    ),
    (#"{"url":"postgresql://h/d","connections_max":2}"#, "/connections_max: ", "3 to 100"),
    (#"{"url":"postgresql://h/d","pool":2}"#, "/pool: ", "unknown key"),
  ])
  func configurationIsChecked(_ configuration: String, _ pointer: String, _ sentence: String) {
    let text = Self.configured(configuration)
    #expect(text.contains(pointer) && text.contains(sentence), "\(text)")
    #expect(!text.contains("s3cret"))
  }

  @Test(arguments: [
    "postgres://h", "postgresql://", "postgresql://u:p%2F%40%3A@h:5432/d?sslmode=require&connect_timeout=3",
    "postgresql://a:1,b:2/d?target_session_attrs=any", "postgresql://[::1]:5432/d", "postgresql:///d?host=/run&port=9",
    "postgresql://u@h/d?user=a%40b", "postgresql:///d?user=a@b&host=h",
  ])
  func urlsAreReadAsLibpqDoes(_ url: String) {
    #expect(Self.configured(#"{"url":"\#(url)"}"#) == "(it was accepted)")
  }

  // MARK: Start

  @Test func whatTheServerRefuses() throws {
    let server = try PostgreSQLServer(["ssl": "off"], authentication: .scram)
    let port = server.port
    let wrong = "postgresql://postgres:wr0ng-s3cret@127.0.0.1:\(port)"
    let cases: [(String, [String])] = [
      ("\(wrong)/postgres", ["password authentication failed", "check user and password in url", "127.0.0.1:\(port)"]),
      ("postgresql://postgres@127.0.0.1:\(port)/postgres", ["no password supplied", "check user and password"]),
      (server.networkURL("nowhere"), ["database \"nowhere\" does not exist", "CREATE DATABASE"]),
      (server.networkURL("postgres", "sslmode=require"), ["does not support SSL", "sslmode"]),
      ("postgresql://u:s3cret@no-such-host.invalid/d", ["could not translate host name", "check the host in url"]),
      ("postgresql://u:s3cret@127.0.0.1:1/d", ["Connection refused", "host and port"]),
      ("postgresql://u:s3cret@/d?host=/nowhere", ["No such file or directory", "host and port"]),
      ("postgresql://u:s3cret@127.0.0.1:\(port)/d?sslmode=verify-full&sslrootcert=/nowhere", ["SSL"]),
    ]
    for (url, sentences) in cases {
      let text = Self.refusal(url)
      for sentence in sentences { #expect(text.contains(sentence), "\(text)") }
      #expect(!text.contains("s3cret"), "\(text)")
      #expect(!text.contains(PostgreSQLServer.password) && !text.contains("sesame"), "\(text)")
      #expect(!text.contains("\n"), "\(text)")
    }
  }

  @Test func tlsIsLibpqs() throws {
    let files = try PostgreSQLServer.makeCertificate()
    defer { PostgreSQLServer.remove(files.directory) }
    let server = try PostgreSQLServer(
      ["ssl": "on", "ssl_cert_file": files.certificate, "ssl_key_file": files.key], authentication: .scram)
    let trusting = "sslmode=verify-full&sslrootcert=\(files.certificate)"
    let backend = try Fixture.started(server.networkURL("postgres", trusting))
    #expect(backend.apply([.put("a://b/1", [0x31])]).code == BP_OK)
    let encrypted = try server.client().value(
      """
      SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'backplane'
      """)
    #expect(encrypted == "t")
    let unknown = try PostgreSQLServer.makeCertificate()
    defer { PostgreSQLServer.remove(unknown.directory) }
    for query in ["sslmode=verify-full&sslrootcert=\(unknown.certificate)", "sslmode=verify-ca&sslrootcert=/nowhere"] {
      let text = Self.refusal(server.networkURL("postgres", query))
      #expect(text.contains("sslrootcert") && !text.contains("sesame"), "\(text)")
    }
  }

  @Test func aReadOnlyDatabase() throws {
    let server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase()
    try Fixture.started(server.url(database)).stop()
    try server.client().run("ALTER DATABASE \(database) SET default_transaction_read_only = on")
    let text = Self.refusal(server.url(database))
    #expect(text.contains("is read-only") && text.contains("default_transaction_read_only"), "\(text)")
    let empty = try server.makeDatabase()
    try server.client().run("ALTER DATABASE \(empty) SET default_transaction_read_only = on")
    #expect(Self.refusal(server.url(empty)).contains("is read-only"))
  }

  @Test func aUserWithoutRights() throws {
    let server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase()
    let user = "nobody_\(database)"
    try server.client().run("CREATE ROLE \(user) LOGIN")
    let url = server.url(database).replacing("postgres@", with: "\(user)@")
    let text = Self.refusal(url)
    #expect(text.contains("may not make b3nd_data") && text.contains("GRANT"), "\(text)")
    // Who may only use what is there need not make it.
    try Fixture.started(server.url(database)).stop()
    try server.client(database).run("GRANT SELECT, INSERT, UPDATE, DELETE ON b3nd_data TO \(user)")
    let backend = try Fixture.started(url)
    #expect(backend.apply([.put("a://b/1", [0x31])]).code == BP_OK)
    try server.client(database).run("REVOKE INSERT, UPDATE ON b3nd_data FROM \(user)")
    let answer = backend.apply([.put("a://b/1", [0x31])])
    #expect(answer.code == BP_PERMISSION_DENIED && answer.message.contains("GRANT"), "\(answer.message)")
    #expect(backend.read("a://b/1").code == BP_OK)
  }

  @Test func anotherEncoding() throws {
    let server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase("TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    #expect(Self.refusal(server.url(database)).contains("ENCODING 'UTF8'"))
  }

  /// A port that takes connections and says nothing.
  @Test func aServerThatDoesNotAnswer() throws {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(listener) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        #expect(bind(listener, $0, length) == 0 && listen(listener, 8) == 0 && getsockname(listener, $0, &length) == 0)
      }
    }
    let url = "postgresql://u:s3cret@127.0.0.1:\(UInt16(bigEndian: address.sin_port))/d"
    let text = Self.refusal(url, #""connect_timeout_ms":200"#)
    #expect(text.contains("did not answer in time") && text.contains("connect_timeout_ms"), "\(text)")
    // The host's deadline counts too.
    let backend = try TestBackend(PostgreSQLBackend.self, Fixture.configuration(url))
    let late = #expect(throws: Refused.self) { try backend.start(withinMs: 600) }
    #expect(late?.description.contains("did not answer in time") == true, "\(late?.description ?? "")")
  }

  @Test func secretsStayInside() throws {
    let server = try PostgreSQLServer(authentication: .scram)
    let url = server.networkURL()
    let backend = try Fixture.started(url, #""outage_wait_ms":100"#)
    #expect(backend.apply([.put("a://b/1", [0x31])]).code == BP_OK)
    server.stop()
    let answer = backend.apply([.put("a://b/1", [0x31])])
    let texts = [answer.message, backend.read("a://b/1").message] + backend.health.map(\.message)
    #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable)
    #expect(!texts.isEmpty && texts.allSatisfy { !$0.contains("sesame") && !$0.contains("%73") }, "\(texts)")
  }
}
