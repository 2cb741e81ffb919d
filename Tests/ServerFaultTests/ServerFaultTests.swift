import Foundation
import HTTPBackend
import MongoDBBackend
import MongoWireServer
import NodeTesting
import PluginAPI
import PluginTestHost
import PostgreSQLBackend
import ServerTesting
import Testing

/// Every backend that talks to a server, behind a proxy that does what networks do.
@Suite(.serialized) struct ServerFaultTests {
  enum Kind: String, CaseIterable, Sendable {
    case postgresql
    case mongodb
    case http
  }

  @Test(arguments: Kind.allCases) func faultsPass(_ kind: Kind) async throws {
    let server = try DrilledServer(kind)
    let proxy = try FaultProxy(to: .tcp(port: server.port))
    let host = try TestHost(entry: server.entry.pointer, configuration: server.configuration(proxy.port))
    try await host.start(within: .seconds(60))
    let drill = ServerFaultDrill(host, through: proxy)
    for fault in ServerFaultDrill.faults {
      var outcome = try await drill.run(fault)
      #expect(outcome.problems == [], "\(kind) under \(fault)")
      #expect(outcome.acknowledgedCount > 0, "\(kind) under \(fault): nothing was written at all")
      // Within two seconds of the end of the fault. A busy machine may take longer, but not every time.
      for _ in 0..<2 where outcome.recovery > .seconds(2) { outcome = try await drill.run(fault) }
      #expect(outcome.recovery <= .seconds(2), "\(kind) after \(fault)")
    }
    try await host.stop(within: .seconds(60))
    host.destroy()
    #expect(host.violations.isEmpty)
  }
}

/// A server of each kind, and how its backend is told of a port that leads to it.
final class DrilledServer {
  let entry: PluginEntry
  let port: UInt16
  let configuration: (UInt16) -> String
  /// What lives as long as the test.
  private let kept: [AnyObject]

  private static let postgresql = PluginEntry(PostgreSQLBackend.self, id: "org.backplane.postgresql", version: "1.0.0")
  {
    PostgreSQLBackend.create($0, $1, $2)
  }
  private static let mongodb = PluginEntry(MongoDBBackend.self, id: "org.backplane.mongodb", version: "1.0.0") {
    MongoDBBackend.create($0, $1, $2)
  }
  private static let http = PluginEntry(HTTPBackend.self, id: "org.backplane.http-backend", version: "1.0.0") {
    HTTPBackend.create($0, $1, $2)
  }

  init(_ kind: ServerFaultTests.Kind) throws {
    switch kind {
    case .postgresql:
      let server = try PostgreSQLServer.shared()
      let database = try server.makeDatabase()
      (entry, port, kept) = (Self.postgresql, UInt16(server.port), [])
      configuration = { #"{"url":"\#(server.networkURL(database, port: Int($0)))"}"# }
    case .mongodb:
      let server = MongoWireServer()
      (entry, port, kept) = (Self.mongodb, server.port, [server])
      // The addresses that a replica set tells of lead past the proxy.
      configuration = { #"{"url":"mongodb://127.0.0.1:\#($0)/test?directConnection=true"}"# }
    case .http:
      let node = try NodeProcess()
      (entry, port, kept) = (Self.http, UInt16(node.port), [node])
      configuration = { #"{"url":"http://127.0.0.1:\#($0)"}"# }
    }
  }
}
