import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOPosix
import PluginAPI
import Synchronization

/// The pool of connections to one address of the remote.
final class Line: Sendable {
  /// An IP address.
  let address: String
  private let settings: Settings
  private let client: HTTPClient
  private let exchanges: Exchanges
  private let prototypes: Prototypes
  /// Requests that have no answer yet.
  private let requestsOpen = Atomic<Int>(0)

  /// One URL for all requests: their targets are put in by `TargetHandler`.
  private struct Prototypes: Sendable {
    let get: HTTPClient.Request
    let post: HTTPClient.Request
    let delete: HTTPClient.Request

    init(_ url: String, _ headers: HTTPHeaders) throws {
      get = try HTTPClient.Request(url: url, method: .GET, headers: headers)
      post = try HTTPClient.Request(url: url, method: .POST, headers: headers)
      delete = try HTTPClient.Request(url: url, method: .DELETE, headers: headers)
    }

    func of(_ method: RemoteRequest.Method) -> HTTPClient.Request {
      switch method {
      case .get: get
      case .post: post
      case .delete: delete
      }
    }
  }

  init(_ settings: Settings, address: String, group: MultiThreadedEventLoopGroup, exchanges: Exchanges) throws {
    self.settings = settings
    self.address = address
    self.exchanges = exchanges
    let remote = settings.remote
    // The name that TLS asks for and verifies is the URL's; where it leads to has been looked up by us.
    let name = settings.tls?.serverName ?? remote.host
    let url = "\(remote.isTLS ? "https" : "http")://\(name.contains(":") ? "[\(name)]" : name):\(remote.port)/"
    var headers: HTTPHeaders = ["host": remote.authority, "x-backplane-node": "1", "accept": "*/*"]
    if let authorization = remote.authorization { headers.add(name: "authorization", value: authorization) }
    prototypes = try Prototypes(url, headers)
    var configuration = HTTPClient.Configuration()
    configuration.redirectConfiguration = .disallow
    configuration.decompression = .disabled
    configuration.proxy = nil
    configuration.httpVersion = .http1Only
    configuration.timeout = .init(connect: .milliseconds(Int64(settings.connectTimeoutMs)))
    configuration.connectionPool.idleTimeout = .milliseconds(Int64(settings.idleTimeoutMs))
    // `Remote` gives out the turns, and never more than these.
    configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 2 * settings.connectionsMax
    // A request that cannot be sent now is answered now: whoever asks may have another backend.
    configuration.connectionPool.retryConnectionEstablishment = false
    if name != address { configuration.dnsOverride = [name: address] }
    configuration.tlsConfiguration = settings.tls?.configuration
    configuration.http1_1ConnectionDebugInitializer = { channel in
      channel.eventLoop.makeCompletedFuture {
        let pipeline = channel.pipeline.syncOperations
        let encoder = try pipeline.handler(type: HTTPRequestEncoder.self)
        try pipeline.addHandler(TargetHandler(exchanges), position: .after(encoder))
      }
    }
    client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
  }

  var isIdle: Bool { requestsOpen.load(ordering: .acquiring) == 0 }

  struct Ending: Error {
    var problem: RemoteProblem
    /// The connection was an old one that the remote had closed before it saw the request, or was closed before it was
    /// written to: sending it again is right.
    var isStale: Bool
  }

  /// Sends one request. `done` is called exactly once, on the event loop. Any thread.
  /// - Returns: the number by which it can be cancelled.
  @discardableResult
  func send(
    _ request: RemoteRequest, _ done: @escaping @Sendable (Result<RemoteAnswer, Ending>) -> Void
  ) -> UInt64 {
    let now = NIODeadline.now()
    let latest = now + .milliseconds(Int64(settings.timeoutMs))
    let callers =
      request.deadlineNs == 0 ? latest : NIODeadline.uptimeNanoseconds(min(request.deadlineNs, UInt64(Int64.max)))
    let exchange = exchanges.begin(request.target, sizeBytesMax: settings.responseSizeBytesMax)
    var prepared = prototypes.of(request.method)
    prepared.headers.add(name: TargetHandler.header, value: "\(exchange.number)")
    if let key = request.key { prepared.headers.add(name: "x-backplane-request", value: key.text) }
    if request.isForwarded { prepared.headers.add(name: "backplane-forwarded", value: "1") }
    if let trace = request.trace { prepared.headers.add(name: "traceparent", value: trace) }
    if let body = request.body {
      prepared.headers.add(name: "content-type", value: "application/json")
      prepared.body = .byteBuffer(body())
    }
    requestsOpen.add(1, ordering: .relaxed)
    let task = client.execute(request: prepared, delegate: exchange, deadline: min(callers, latest))
    exchanges.started(exchange, task)
    let settings = settings
    task.futureResult.whenComplete { [self] result in
      exchanges.end(exchange)
      requestsOpen.subtract(1, ordering: .releasing)
      done(
        result.mapError { error in
          let problem = RemoteProblem(error, settings, isCallersDeadline: callers < latest)
          return Ending(
            problem: problem,
            isStale: problem.kind == .lost && exchange.isUnanswered
              && (exchange.isOnUsedConnection || !exchange.isWritten))
        })
    }
    return exchange.number
  }

  /// Ends every connection; what is open fails. Not on the event loop.
  func shutDown() async { try? await client.shutdown() }

  /// The same for a thread that may block.
  func shutDownAndWait() { try? client.syncShutdown() }
}
