import Foundation
import NodeTesting
import Testing

/// What must cross: sizes, deadlines, cancellation.
@Suite struct IsolatedCalls {
  @Test func deadlineAndCancelAreCarried() throws {
    let misfit = try MisfitNode(settings: "limits: {request_timeout_ms: 400}")
    let id = try misfit.processID()
    let answer = try misfit.node.read("mutable/open/patient")
    #expect(answer.status == 503 || answer.status == 504, "\(answer.status) \(answer.text)")
    // It was told, after the deadline that it knew, and went on living.
    var lateMs: Int?
    #expect(
      Polling.until {
        lateMs = (try? String(contentsOfFile: "\(misfit.folder.path)/cancelled-\(id)", encoding: .utf8)).flatMap {
          Int($0.split(separator: "\n").first ?? "")
        }
        return lateMs != nil
      })
    #expect(lateMs.map { $0 >= 0 } == true, "\(String(describing: lateMs))")
    #expect(try misfit.processID() == id)
  }

  @Test(arguments: [0, 1, 200, 16_000, 16_384, 65_536, 1 << 20, 10 << 20])
  func bodiesOfEverySizeCross(sizeBytes: Int) throws {
    let misfit = try MisfitNode(
      settings: "isolation: {default: process}", keys: "isolation: process")
    let text = String(repeating: "x", count: sizeBytes)
    #expect(try misfit.node.put("mutable://open/body", "\"\(text)\"").status == 200)
    let answer = try misfit.node.read("mutable/open/body")
    #expect(answer.status == 200)
    #expect((answer.json as? [String: Any])?["data"] as? String == text)
    let echoed = try misfit.node.read("mutable/open/echo/\(sizeBytes)")
    #expect((echoed.json as? [String: Any])?["data"] as? String == String(repeating: "e", count: sizeBytes))
  }

  /// A hundred mebibytes at once: taken or refused, never an end of the node, and the memory comes back.
  @Test func manyLargeBodiesAtOnceStayWithinBounds() throws {
    let misfit = try MisfitNode(settings: "isolation: {default: process}")
    let port = misfit.node.port
    let body = #"{"tx":["mutable://open/large/N",""# + String(repeating: "y", count: 10 << 20) + #""]}"#
    let statuses = Shared<[Int]>([])
    let clients = TestThreads()
    for number in 0..<10 {
      clients.start {
        let status =
          (try? HTTPConnection(port: port).post(
            "/api/v1/receive", body.replacingOccurrences(of: "large/N", with: "large/\(number)")
          ).status) ?? -1
        statuses.with { $0.append(status) }
      }
    }
    #expect(clients.join(seconds: 60))
    let all = statuses.with { $0 }
    #expect(all.allSatisfy { [200, 429, 503].contains($0) }, "\(all)")
    #expect(all.contains(200), "\(all)")
    #expect(try misfit.node.metric("backplane_isolation_crashes_total", "misfit") == 0)
    #expect(try misfit.node.put("mutable://open/after", "1").status == 200)
  }
}
