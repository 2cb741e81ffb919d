import Foundation
import PluginAPI
import TLSTesting
import Testing

@testable import HTTPTransport

extension HTTPTests {
  @Suite struct TLSFileTests {
    private static func keys(_ pair: Certificates.Pair) -> TLSKeys {
      var keys = TLSKeys()
      (keys.certificateFile, keys.privateKeyFile) = (pair.certificate, pair.key)
      return keys
    }

    private static func read(_ keys: TLSKeys) throws -> TLSIdentity {
      var problems: [ConfigurationProblem] = []
      let settings = TLSSettings(keys, problems: &problems)
      #expect(problems.isEmpty)
      return try TLSIdentity.read(settings)
    }

    @Test func keysOfEveryKind() throws {
      let certificates = try Certificates()
      let pair = try certificates.issue("server")
      let folder = certificates.folder
      let identity = try Self.read(Self.keys(pair))
      #expect(!identity.isKeyReadableByOthers)
      #expect(identity.notValidAfter > Int(Date().timeIntervalSince1970) + 29 * 86_400)
      // In place of a file.
      var inline = TLSKeys()
      inline.certificateFile = pair.certificate
      inline.privateKey = try String(contentsOfFile: pair.key, encoding: .utf8)
      _ = try Self.read(inline)
      // Encrypted.
      try Certificates.openssl(
        ["ec", "-in", "server.key", "-aes256", "-passout", "pass:a passphrase", "-out", "locked.key"], in: folder.path)
      var locked = Self.keys(.init(certificate: pair.certificate, key: folder.path + "/locked.key"))
      for passphrase in [nil, "another"] {
        locked.privateKeyPassphrase = passphrase
        let errors = #expect(throws: ConfigurationErrors.self) { try Self.read(locked) }
        #expect(errors?.problems.map(\.pointer) == ["/tls/private_key_file"])
        #expect(errors?.description.contains("private_key_passphrase") == true)
        #expect(errors?.description.contains("another") == false)
      }
      locked.privateKeyPassphrase = "a passphrase"
      _ = try Self.read(locked)
      chmod(pair.key, 0o644)
      #expect(try Self.read(Self.keys(pair)).isKeyReadableByOthers)
      var problems: [ConfigurationProblem] = []
      let settings = TLSSettings(Self.keys(pair), problems: &problems)
      let now = Int(Date().timeIntervalSince1970)
      #expect(try Self.read(Self.keys(pair)).warning(settings, nowSeconds: now)?.contains("chmod o-r") == true)
      #expect(identity.warning(settings, nowSeconds: now) == nil)
      #expect(identity.warning(settings, nowSeconds: now + 31 * 86_400)?.contains("expired on") == true)
      #expect(identity.warning(settings, nowSeconds: now - 86_400)?.contains("is not valid before") == true)
    }

    @Test func filesThatAreNone() throws {
      let certificates = try Certificates()
      let (one, other) = (try certificates.issue("one"), try certificates.issue("other"))
      let folder = certificates.folder.path
      let cases: [(TLSKeys, String, String)] = [
        (Self.keys(.init(certificate: one.certificate, key: other.key)), "private_key_file", "is not the key"),
        (Self.keys(.init(certificate: folder, key: one.key)), "certificate_file", "not a file"),
        (Self.keys(.init(certificate: "/dev/zero", key: one.key)), "certificate_file", "not a file"),
        (Self.keys(.init(certificate: one.key, key: one.key)), "certificate_file", "no certificate in PEM form"),
        (Self.keys(.init(certificate: one.certificate, key: one.certificate)), "private_key_file", "no private key"),
      ]
      for (keys, key, sentence) in cases {
        let errors = #expect(throws: ConfigurationErrors.self) { try Self.read(keys) }
        #expect(errors?.problems.first?.pointer == "/tls/\(key)")
        #expect(errors?.description.contains(sentence) == true, "\(errors?.description ?? "")")
      }
    }

    @Test func handshakesThatDoNotEnd() async throws {
      let certificates = try Certificates()
      let pair = try certificates.issue("server")
      try await withTransport({
        $0.tls = Self.keys(pair)
        $0.tls?.handshakeTimeoutMs = 200
        $0.lingerTimeoutMs = 50
      }) { fixture in
        // Nothing, half a record, and no record at all.
        let silent = try fixture.client()
        let half = try fixture.client()
        half.send([22, 3, 1, 2, 0, 1])
        let noise = try fixture.client()
        noise.send([0, 1, 2, 3])
        _ = try (silent.end(), half.end(), noise.end())
        let clear = try fixture.client().get("/health/live")
        #expect(clear.status == 400)
        #expect(clear.text.contains("https://"))
        let tls = NIOClient.TLS(authority: certificates.authority)
        let client = try NIOClient(port: Int(fixture.port), tls: tls, http2: true)
        #expect(try client.get("/health/live").status == 200)
        // What has shaken hands stays.
        try await Task.sleep(for: .milliseconds(400))
        #expect(try client.get("/health/live").status == 200)
      }
    }

    @Test func nothingStaysBehind() async throws {
      let certificates = try Certificates()
      let pair = try certificates.issue("server")
      func descriptors() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count }
      func round() async throws {
        try await withTransport({ $0.tls = Self.keys(pair) }) { fixture in
          let answer = try fixture.client().get("/health/live")
          #expect(answer.status == 400)
        }
      }
      try await round()
      let before = try descriptors()
      for _ in 0..<10 { try await round() }
      #expect(try descriptors() == before)
    }
  }
}
