import Foundation
import NIOSSL
import NodeTesting
import TLSTesting
import Testing

/// A whole node that speaks TLS.
@Suite struct TLSTests {
  @Test func curlOverEveryVersion() throws {
    let certificates = try Certificates()
    let pair = try certificates.issue("server")
    let node = try SecureNode.start(pair, authority: certificates.authority)
    let base = "https://localhost:\(node.port)"
    let trust = ["--cacert", certificates.authority]
    let record = #"{"tx":["mutable://open/a",{"n":1}]}"#
    let written = try Curl.run(
      trust + ["--data-binary", record, "\(base)/api/v1/receive"], in: node.folder)
    #expect(written.body == #"{"accepted":true}"#)
    #expect(written.version == "2")
    for options in [["--http1.1"], ["--tls-max", "1.2"], ["--tlsv1.3"], ["--http1.1", "--tls-max", "1.2"]] {
      let answer = try Curl.run(trust + options + ["\(base)/api/v1/read/mutable/open/a"], in: node.folder)
      #expect(answer.exit == 0, "\(options)")
      #expect(answer.body.hasSuffix(#","data":{"n":1}}"#), "\(options)")
      #expect(answer.version == (options.contains("--http1.1") ? "1.1" : "2"), "\(options)")
    }
    // Without the authority nobody believes it.
    #expect(try Curl.run(["\(base)/health"], in: node.folder).exit == 60)
    // Clear text on this port is told what to do.
    let clear = try HTTPConnection(port: node.port).get("/health")
    #expect(clear.status == 400)
    #expect(clear.text.contains("https://"))
    #expect(clear.closes)
    #expect(node.stop() == 0)
  }

  @Test func aMinimumVersion() throws {
    let certificates = try Certificates()
    let node = try SecureNode.start(
      try certificates.issue("server"), authority: certificates.authority, tls: ["minimum_version: \"1.3\""])
    var old = NIOClient.TLS(authority: certificates.authority)
    old.maximum = .tlsv12
    #expect(throws: (any Error).self) { try NIOClient(port: node.port, tls: old, http2: true) }
    let new = try NIOClient(port: node.port, tls: .init(authority: certificates.authority), http2: true)
    #expect(new.version == .tlsv13)
    #expect(try new.get("/health").status == 200)
  }

  @Test func clientsWithCertificates() throws {
    let certificates = try Certificates()
    let stranger = try Certificates()
    let mine = try certificates.issue("client")
    let theirs = try stranger.issue("client")
    let node = try SecureNode.start(
      try certificates.issue("server"), authority: certificates.authority,
      tls: ["client_authority_file: \(certificates.authority)"], client: mine)
    for http2 in [true, false] {
      var options = NIOClient.TLS(authority: certificates.authority)
      for refused in [nil, theirs] {
        options.certificate = refused
        // With TLS 1.3 the client has ended its handshake before the server looks at what it shows.
        #expect(throws: (any Error).self) {
          try NIOClient(port: node.port, tls: options, http2: http2).get("/health")
        }
      }
      options.certificate = mine
      #expect(try NIOClient(port: node.port, tls: options, http2: http2).get("/health").status == 200)
    }
  }

  @Test func anExpiredCertificateIsServedAndSaid() throws {
    let certificates = try Certificates()
    let pair = try certificates.issue("server", days: -1)
    let node = try NodeProcess(configuration: SecureNode.configuration(pair), waits: false)
    var answer: Curl.Answer?
    _ = Polling.until(seconds: 60) {
      answer = try? Curl.run(["-k", "https://localhost:\(node.port)/api/v1/health"], in: node.folder)
      return answer?.status == 200
    }
    #expect(answer?.body.contains("degraded") == true)
    #expect(answer?.body.contains("expired on") == true)
    #expect(node.log.contains("expired on"))
    #expect(node.stop() == 0)
  }

  /// What is wrong is said with the place where it stands, before anything starts.
  @Test func whatIsRefused() throws {
    let certificates = try Certificates()
    let (one, other) = (try certificates.issue("one"), try certificates.issue("other"))
    let folder = try TemporaryFolder()
    try folder.write("no certificate", to: "text.pem")
    try folder.write("", to: "plugins.d/.keep")
    let text = folder.path + "/text.pem"
    let cases: [(Certificates.Pair, String, String)] = [
      (.init(certificate: one.certificate, key: other.key), "/tls/private_key_file", "is not the key of the"),
      (.init(certificate: "/no/such.pem", key: one.key), "/tls/certificate_file", "No such file"),
      (.init(certificate: text, key: one.key), "/tls/certificate_file", "no certificate in PEM form"),
      (.init(certificate: one.certificate, key: text), "/tls/private_key_file", "no private key in PEM form"),
    ]
    for name in BuiltProducts.bundled where name != "backend-sqlite" {
      try PluginFile.drop(
        BuiltProducts.plugin(name), into: folder.path + "/plugins.d", as: "libbackplane-\(name).so")
    }
    for (pair, pointer, sentence) in cases {
      try folder.write(SecureNode.configuration(pair), to: "backplane.yaml")
      let (output, errors, status) = try CommandLineTool.run(
        BuiltProducts.backplane, ["serve", "--port", "0"], in: folder.path)
      #expect(status != 0)
      #expect((output + errors).contains(pointer), "\(output)\(errors)")
      #expect((output + errors).contains(sentence), "\(output)\(errors)")
    }
  }
}
