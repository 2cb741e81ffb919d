import Glibc
import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

/// Connections to servers, on an event loop of the instance's own.
struct WebClient: Sendable {
  struct Limits: Sendable {
    var timeoutMs: Int
    var sizeBytesMax: Int
    /// 0: none is followed.
    var redirectsMax = 0
  }

  let limits: Limits
  private let client: HTTPClient

  init(_ group: MultiThreadedEventLoopGroup, _ limits: Limits, tls: TLSConfiguration) {
    self.limits = limits
    var configuration = HTTPClient.Configuration()
    configuration.redirectConfiguration =
      limits.redirectsMax == 0 ? .disallow : .follow(max: limits.redirectsMax, allowCycles: false)
    configuration.decompression = .disabled
    configuration.proxy = nil
    configuration.httpVersion = .http1Only
    configuration.timeout = .init(connect: .milliseconds(Int64(min(limits.timeoutMs, 5_000))))
    configuration.connectionPool.idleTimeout = .seconds(30)
    configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 2
    // The next poll is the next attempt.
    configuration.connectionPool.retryConnectionEstablishment = false
    configuration.tlsConfiguration = tls
    client = HTTPClient(eventLoopGroupProvider: .shared(group), configuration: configuration)
  }

  /// Asks once. `name` stands for the server in what is thrown. Cancelling the task gives the request up.
  func ask(
    _ method: HTTPMethod, _ url: String, _ headers: HTTPHeaders = [:], body: [UInt8]? = nil, name: String
  ) async throws(Trouble) -> WebAnswer {
    do {
      let payload = body.map { HTTPClient.Body.byteBuffer(ByteBuffer(bytes: $0)) }
      let request = try HTTPClient.Request(url: url, method: method, headers: headers, body: payload)
      // From the request to the whole of its answer.
      let task = client.execute(
        request: request, delegate: WebExchange(sizeBytesMax: limits.sizeBytesMax),
        deadline: .now() + .milliseconds(Int64(limits.timeoutMs)))
      return try await withTaskCancellationHandler {
        try await task.futureResult.get()
      } onCancel: {
        task.cancel()
      }
    } catch {
      throw Trouble(sentence(error, name))
    }
  }

  func shutDown() async { try? await client.shutdown() }

  private func sentence(_ error: any Error, _ name: String) -> String {
    switch error {
    case is AnswerTooLong: return "\(name) answers with more than \(limits.sizeBytesMax) bytes"
    case let error as HTTPClientError:
      switch error {
      case .deadlineExceeded, .readTimeout: return "\(name) gave no whole answer within \(limits.timeoutMs) ms"
      case .connectTimeout: return "\(name) cannot be reached: no connection came about in time"
      case .redirectLimitReached, .redirectCycleDetected:
        return "\(name) redirects in a circle, or more than \(limits.redirectsMax) times"
      case .cancelled: return "the request to \(name) was given up"
      case .remoteConnectionClosed: return "\(name) closed the connection before it had answered"
      case .invalidURL, .emptyHost, .emptyScheme: return "'\(name)' is no URL"
      default: return "\(name) cannot be asked: \(error.shortDescription)"
      }
    case let error as NIOConnectionError:
      if let reason = error.connectionErrors.first?.error as? IOError {
        return "\(name) cannot be reached: \(reason.cause)"
      }
      return "\(name) cannot be reached: its name is not known"
    case let error as IOError: return "\(name) cannot be reached: \(error.cause)"
    case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError: return "\(name) cannot be reached over TLS: \(error)"
    case is HTTPParserError: return "\(name) answers with what is not HTTP"
    default: return "\(name) cannot be asked: \(error)"
    }
  }
}

extension IOError {
  /// The system's words.
  fileprivate var cause: String { String(cString: strerror(errnoCode)).lowercased() }
}
