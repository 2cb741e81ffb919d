import BackendTesting
import Foundation
import HTTPBackend
import Testing

/// What `configure` takes, and what it says of the rest: always with the key, never with a secret.
@Suite struct ConfigurationTests {
  @Test(arguments: [
    ("{}", "/url", "url is missing"),
    (#"{"url":""}"#, "/url", "url is missing"),
    (#"{"url":"ftp://h/"}"#, "/url", "begins with http:// or https://"),
    (#"{"url":"http://"}"#, "/url", "host is missing"),
    (#"{"url":"http://h:0"}"#, "/url", "port must be"),
    (#"{"url":"http://h:99999"}"#, "/url", "port must be"),
    (#"{"url":"http://h:"}"#, "/url", "port must be"),
    (#"{"url":"http://[::1"}"#, "/url", "[ has no ]"),
    (#"{"url":"http://[h]"}"#, "/url", "no IPv6 address"),
    (#"{"url":"http://[::1]x"}"#, "/url", "only :port may follow"),
    (#"{"url":"http://h/?a=b"}"#, "/url", "has a ? or #"),
    (#"{"url":"http://h/#a"}"#, "/url", "has a ? or #"),
    (#"{"url":"http://h/ b"}"#, "/url", "a character that none may have"),
    (#"{"url":"http://h\u0000"}"#, "/url", "a character that none may have"),
    (#"{"url":"http://u:%zz@h"}"#, "/url", "two hexadecimal digits"),
    (#"{"url":"http://h!x"}"#, "/url", "no name"),
    (#"{"url":"http://h","timeout_ms":0}"#, "/timeout_ms", "give 1 to 3600000"),
    (#"{"url":"http://h","connect_timeout_ms":-1}"#, "/connect_timeout_ms", "give 1 to 600000"),
    (#"{"url":"http://h","connections_max":0}"#, "/connections_max", "give 1 to 1024"),
    (#"{"url":"http://h","response_size_bytes_max":3}"#, "/response_size_bytes_max", "give 1024 to"),
    (#"{"url":"http://h","scan_uris_max":0}"#, "/scan_uris_max", "give 1 to"),
    (#"{"url":"http://h","tls_ca_file":"/x"}"#, "/tls_ca_file", "is for https"),
    (#"{"url":"https://h","tls_ca_file":"x.pem"}"#, "/tls_ca_file", "absolute path"),
    (#"{"url":"https://h","tls_ca_file":"/nonexistent.pem"}"#, "/tls_ca_file", "is missing or is no PEM file"),
    (#"{"url":"https://h","tls_server_name":"a b"}"#, "/tls_server_name", "no host name"),
    (#"{"url":"https://h","tls_certificate_file":"/dev/null"}"#, "/tls_private_key_file", "is missing"),
    (#"{"url":"http://h","retries":3}"#, "/retries", "unknown key"),
  ])
  func isRefused(_ configuration: String, _ pointer: String, _ sentence: String) {
    let lines = TestBackend.refusal(configuration)
    #expect(lines.contains { $0.hasPrefix("\(pointer): ") && $0.contains(sentence) }, "\(lines)")
  }

  @Test(arguments: [
    "http://h", "HTTP://H:1/", "https://user:pa%3Ass@node.example:65535/below/", "http://[::1]:9942", "http://10.0.0.1",
    "http://a_b-c.example/",
  ])
  func isTaken(_ url: String) { #expect(TestBackend.refusal(#"{"url":"\#(url)"}"#) == []) }

  @Test func everythingWrongIsSaidAtOnce() {
    let lines = TestBackend.refusal(#"{"url":"x","timeout_ms":0,"connections_max":0}"#)
    #expect(lines.count == 3, "\(lines)")
  }

  @Test func noRefusalSaysThePassword() {
    for url in ["http://u:s3cret@h:0", "http://u:s3cret@h/?x", "http://u:s3cret@", "ftp://u:s3cret@h"] {
      let lines = TestBackend.refusal(#"{"url":"\#(url)"}"#)
      #expect(!lines.isEmpty && lines.allSatisfy { !$0.contains("s3cret") }, "\(lines)")
    }
  }

  @Test func theSelfTestPasses() throws {
    let backend = try TestBackend(HTTPBackend.self, "{}", purpose: 2)
    try backend.selfTest("/nonexistent")
  }
}
