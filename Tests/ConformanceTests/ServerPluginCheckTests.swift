import Foundation
import MongoWireServer
import NodeTesting
import ServerTesting
import Testing

/// The suite in the form of the product, on the bundled backends whose records a server keeps.
@Suite(.serialized) struct ServerPluginCheckTests {
  private func check(_ name: String, _ url: String) async throws -> CheckAnswer {
    let (status, answer) = try await CheckAnswer.of(
      "\(Tool.products)/libbackplane-backend-\(name).so", "--seed", "5", "--configuration", #"{"url":"\#(url)"}"#,
      "--timeout", "600")
    #expect(answer.failures.map { "\($0.name): \($0.detail)" } == [])
    #expect(status == 0)
    return answer
  }

  @Test func postgresqlPasses() async throws {
    let server = try PostgreSQLServer.shared()
    let answer = try await check("postgresql", server.url(try server.makeDatabase()))
    #expect(answer.checks.contains { $0.name == "backend.crash" })
  }

  @Test func mongodbPasses() async throws {
    let server = MongoWireServer()
    let answer = try await check("mongodb", server.url(options: "replicaSet=rs0"))
    #expect(answer.checks.contains { $0.name == "backend.atomic-units" })
    #expect(server.malformed == [])
  }

  @Test func httpPasses() async throws {
    let folder = TestFolder()
    let node = try NodeProcess(environment: ["BACKEND_URL": "sqlite://\(folder.path)/records.sqlite3"])
    let answer = try await check("http", "http://127.0.0.1:\(node.port)")
    #expect(answer.capabilities.contains(CheckAnswer.Capability(name: "records are another node's", value: "yes")))
  }
}
