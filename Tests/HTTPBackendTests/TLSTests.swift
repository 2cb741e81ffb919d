import BackendTesting
import Foundation
import HTTPBackend
import NIOSSL
import PluginAPI
import Testing

/// An authority and what it signed, made by the openssl of the system.
private final class Certificates {
  let directory = ScratchDirectory()

  func path(_ name: String) -> String { "\(directory.path)/\(name)" }

  init() throws {
    for authority in ["ca", "other-ca"] {
      try run(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
        "/CN=\(authority)", "-keyout", path("\(authority).key"), "-out", path("\(authority).pem"))
    }
    try issue("node", "subjectAltName=DNS:node.example,IP:127.0.0.1")
    try issue("named", "subjectAltName=DNS:node.example")
    try issue("client", "subjectAltName=DNS:client.example")
  }

  private func issue(_ name: String, _ extensions: String) throws {
    try Data("\(extensions)\n".utf8).write(to: URL(fileURLWithPath: path("\(name).ext")))
    try run(
      "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=\(name)", "-keyout",
      path("\(name).key"), "-out", path("\(name).csr"))
    try run(
      "x509", "-req", "-in", path("\(name).csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"), "-CAcreateserial",
      "-days", "2", "-extfile", path("\(name).ext"), "-out", path("\(name).pem"))
  }

  private func run(_ arguments: String...) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "openssl \(arguments.joined(separator: " "))")
  }

  func server(_ name: String, wantsClient: Bool = false) throws -> NIOSSLContext {
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: try NIOSSLCertificate.fromPEMFile(path("\(name).pem")).map { .certificate($0) },
      privateKey: .privateKey(try NIOSSLPrivateKey(file: path("\(name).key"), format: .pem)))
    if wantsClient {
      configuration.certificateVerification = .noHostnameVerification
      configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMFile(path("ca.pem")))
    }
    return try NIOSSLContext(configuration: configuration)
  }
}

@Suite struct TLSTests {
  private let certificates: Certificates

  init() throws { certificates = try Certificates() }

  private func node(_ name: String, wantsClient: Bool = false) throws -> FakeNode {
    let records = FakeRecords()
    return try FakeNode(tls: certificates.server(name, wantsClient: wantsClient)) { records.reply($0) }
  }

  private func authority(_ name: String = "ca") -> String { #""tls_ca_file":"\#(certificates.path("\(name).pem"))""# }

  @Test func aNodeWithACertificateThatIsTrusted() throws {
    let node = try node("node")
    let backend = try TestBackend.http("https://127.0.0.1:\(node.port)", authority())
    #expect(backend.apply([.put("mutable://open/a", [0x31])]).code == BP_OK)
    #expect(backend.read("mutable://open/a").record?.data == [0x31])
    #expect(backend.health.last?.state != BP_HEALTH_UNHEALTHY)
  }

  @Test func aNameOfItsOwn() throws {
    let node = try node("named")
    let url = "https://127.0.0.1:\(node.port)"
    let backend = try TestBackend.http(url, authority() + #","tls_server_name":"node.example""#)
    #expect(backend.apply([.put("mutable://open/a", [0x31])]).code == BP_OK)
    #expect(node.asked.map { $0.headers["host"] } == ["127.0.0.1:\(node.port)"])
    // Without it the address is in no certificate.
    let refusal = TestBackend.startRefusal(url, authority())
    #expect(refusal?.contains("is not for 127.0.0.1") == true, "\(refusal ?? "started")")
    let wrong = TestBackend.startRefusal(url, authority() + #","tls_server_name":"other.example""#)
    #expect(wrong?.contains("is not for other.example") == true, "\(wrong ?? "started")")
  }

  @Test func nobodyIsTrustedByAccident() throws {
    let node = try node("node")
    let url = "https://127.0.0.1:\(node.port)"
    for more in ["", authority("other-ca")] {
      let refusal = TestBackend.startRefusal(url, more)
      #expect(refusal?.contains("tls_ca_file") == true, "\(refusal ?? "started")")
    }
    #expect(node.asked.isEmpty)
  }

  @Test func clientCertificates() throws {
    let node = try node("node", wantsClient: true)
    let url = "https://127.0.0.1:\(node.port)"
    let key = { (name: String) -> String in
      #""tls_certificate_file":"\#(certificates.path("\(name).pem"))","#
        + #""tls_private_key_file":"\#(certificates.path("\(name).key"))""#
    }
    let backend = try TestBackend.http(url, "\(authority()),\(key("client"))")
    #expect(backend.apply([.put("mutable://open/a", [0x31])]).code == BP_OK)
    // In TLS 1.3 the refusal comes after the handshake: it may look like a connection that was lost.
    let without = try? TestBackend.http(url, authority())
    if let without { #expect(without.read("mutable://open/a").code == BP_UNAVAILABLE) }
    let broken = TestBackend.refusal(
      #"{"url":"\#(url)","tls_certificate_file":"\#(certificates.path("client.pem"))","tls_private_key_file":"/dev/null"}"#
    )
    #expect(broken.contains { $0.hasPrefix("/tls_private_key_file: ") }, "\(broken)")
  }

  @Test func oneSideWithoutTLS() throws {
    let plain = try FakeNode { _ in .close }
    let refusal = TestBackend.startRefusal(
      "https://127.0.0.1:\(plain.port)", authority() + #","connect_timeout_ms":500"#)
    #expect(refusal?.contains("TLS") == true || refusal == nil, "\(refusal ?? "")")
    let node = try node("node")
    // Bytes of TLS are no HTTP; or the connection just ends.
    let backend = try? TestBackend.http("http://127.0.0.1:\(node.port)")
    if let backend { #expect(backend.read("mutable://open/a").code == BP_UNAVAILABLE) }
  }
}
