import Foundation
import NodeTesting
import TLSTesting
import Testing

/// Certificates change under a serving node.
@Suite struct CertificateSwapTests {
  @Test func aCertificateIsReplacedUnderLoad() throws {
    let certificates = try Certificates()
    let (served, next) = (try certificates.issue("served"), try certificates.issue("next"))
    let node = try SecureNode.start(
      served, authority: certificates.authority, tls: ["certificate_check_interval_ms: 20"])
    let tls = NIOClient.TLS(authority: certificates.authority)
    let port = node.port
    let first = try NIOClient(port: port, tls: tls, http2: true)
    #expect(try first.get("/health").status == 200)
    let (ends, failures, answers) = (Shared(false), Shared([String]()), Shared(0))
    let threads = TestThreads()
    for index in 0..<4 {
      threads.start {
        let kept = try? NIOClient(port: port, tls: tls, http2: index % 2 == 0)
        while !ends.with({ $0 }) {
          do {
            guard try kept?.get("/health/live").status == 200,
              try NIOClient(port: port, tls: tls, http2: index % 2 == 1).get("/health/live").status == 200
            else { throw NodeProcess.Failed(description: "not 200") }
            answers.with { $0 += 2 }
          } catch { failures.with { $0.append("\(error)") } }
        }
      }
    }
    let former = try #require(first.certificate)
    try certificates.put(next, inPlaceOf: served)
    let isNew = Polling.until(seconds: 60) {
      (try? NIOClient(port: port, tls: tls, http2: true))?.certificate != former
    }
    #expect(isNew)
    let before = answers.with { $0 }
    #expect(Polling.until(seconds: 60) { answers.with { $0 } > before + 20 })
    ends.with { $0 = true }
    #expect(threads.join())
    #expect(failures.with { $0 } == [])
    // What was there before the change goes on.
    #expect(first.isOpen)
    #expect(try first.get("/health").status == 200)
    withExtendedLifetime(first) {}
  }

  @Test func filesThatDoNotBelongTogetherChangeNothing() throws {
    let certificates = try Certificates()
    let (served, next) = (try certificates.issue("served"), try certificates.issue("next"))
    let node = try SecureNode.start(
      served, authority: certificates.authority, tls: ["certificate_check_interval_ms: 20"])
    let tls = NIOClient.TLS(authority: certificates.authority)
    let client = try NIOClient(port: node.port, tls: tls, http2: true)
    let former = try #require(client.certificate)
    func health() throws -> HTTPConnection.Answer { try client.get("/api/v1/health") }
    // Half of a change, as it is seen between two writes.
    try certificates.replace(served.certificate, by: next.certificate)
    #expect(try Polling.until(seconds: 60) { try health().text.contains("is not the key of the certificate") })
    #expect(try health().text.contains("the former one is still shown"))
    #expect(try health().status == 200)
    #expect(try NIOClient(port: node.port, tls: tls, http2: true).certificate == former)
    // The other half.
    try certificates.replace(served.key, by: next.key)
    #expect(try Polling.until(seconds: 60) { try health().text.contains(#""status":"healthy""#) })
    #expect(try NIOClient(port: node.port, tls: tls, http2: true).certificate != former)
    // A file that is gone.
    try FileManager.default.removeItem(atPath: served.certificate)
    #expect(try Polling.until(seconds: 60) { try health().text.contains("cannot be read: No such file") })
    #expect(try NIOClient(port: node.port, tls: tls, http2: true).get("/health").status == 200)
    #expect(node.stop() == 0)
  }

  @Test func aReloadKeepsServing() throws {
    let certificates = try Certificates()
    let served = try certificates.issue("served")
    let node = try SecureNode.start(served, authority: certificates.authority)
    let tls = NIOClient.TLS(authority: certificates.authority)
    let client = try NIOClient(port: node.port, tls: tls, http2: true)
    #expect(try client.get("/health").status == 200)
    try node.folder.write(
      SecureNode.configuration(served, keys: ["idle_timeout_ms: 60000"]), to: "backplane.yaml")
    // The node may have seen the changed file by itself before it is asked.
    #expect(try ["applied", "unchanged"].contains(node.reloadDirectly().outcome))
    #expect(try node.receipts(limit: 2).contains { $0.changes == ["http:replaced"] })
    // The former instance says goodbye, with GOAWAY and without a cut.
    try client.waitForEnd()
    #expect(try NIOClient(port: node.port, tls: tls, http2: true).get("/health").status == 200)
  }
}
