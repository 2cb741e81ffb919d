import AsyncHTTPClient
import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import PluginAPI

/// What an error of the connection means, as a sentence that names what to do.
struct RemoteProblem {
  enum Kind {
    /// Nobody is there, or not now.
    case unreachable
    /// Reached and then lost.
    case lost
    /// It will not get better by itself: the configuration, or the certificate.
    case misconfigured
    case timedOut
    case tooLong
    case cancelled
    case stopping
  }

  var kind: Kind
  var failure: Failure

  init(_ error: any Error, _ settings: Settings, isCallersDeadline: Bool) {
    let name = settings.remote.text
    func make(_ kind: Kind, _ message: String) -> (Kind, Failure) { (kind, .unavailable(message)) }
    (kind, failure) =
      switch error {
      case let error as HTTPClientError where error == .connectTimeout || error == .tlsHandshakeTimeout:
        make(
          .unreachable, "\(name) did not accept a connection within connect_timeout_ms (\(settings.connectTimeoutMs))")
      case let error as HTTPClientError where error == .getConnectionFromPoolTimeout:
        make(
          .unreachable, "no connection to \(name) came about within connect_timeout_ms (\(settings.connectTimeoutMs))")
      case let error as HTTPClientError where error == .deadlineExceeded && isCallersDeadline:
        (
          .timedOut,
          .overdue("\(name) did not answer before the caller's deadline")
        )
      case let error as HTTPClientError where error == .deadlineExceeded || error == .readTimeout:
        make(.timedOut, "\(name) did not answer within timeout_ms (\(settings.timeoutMs))")
      case let error as HTTPClientError where error == .cancelled:
        (.cancelled, Failure(code: BP_CANCELLED, "the request to \(name) was given up", isRetryable: true))
      case let error as HTTPClientError where error == .alreadyShutdown:
        make(.stopping, "the HTTP backend is stopping")
      case let error as HTTPClientError where error == .remoteConnectionClosed:
        make(.lost, "\(name) closed the connection before it had answered")
      case is AnswerTooLong:
        (
          .tooLong,
          Failure(
            code: BP_RESOURCE_EXHAUSTED,
            "the answer of \(name) is longer than \(settings.responseSizeBytesMax) bytes, which is "
              + "response_size_bytes_max; raise it")
        )
      case let error as IOError: Self.input(error, name)
      case let error as NIOConnectionError:
        if let first = error.connectionErrors.first?.error as? IOError {
          Self.input(first, name)
        } else {
          make(.unreachable, "\(name) cannot be reached")
        }
      case is HTTPParserError: make(.misconfigured, "\(name) answers something that is not HTTP; correct url")
      case let error as NIOSSLError: Self.tls(error, settings)
      case is NIOSSLExtraError: Self.wrongName(settings)
      case let error as ChannelError where error == .ioOnClosedChannel || error == .eof || error == .alreadyClosed:
        make(.lost, "the connection to \(name) was lost")
      default: make(.lost, "the connection to \(name) failed (\(type(of: error)))")
      }
  }

  private static func input(_ error: IOError, _ name: String) -> (Kind, Failure) {
    let reason = String(cString: strerror(error.errnoCode))
    switch error.errnoCode {
    case ECONNRESET, EPIPE: return (.lost, .unavailable("the connection to \(name) was lost (\(reason))"))
    default: return (.unreachable, .unavailable("\(name) cannot be reached (\(reason)); see whether it runs"))
    }
  }

  private static func wrongName(_ settings: Settings) -> (Kind, Failure) {
    (
      .misconfigured,
      Failure(
        code: BP_UNAVAILABLE,
        "the certificate of \(settings.remote.text) is not for \(settings.tls?.serverName ?? settings.remote.host); "
          + "correct url or tls_server_name")
    )
  }

  private static func tls(_ error: NIOSSLError, _ settings: Settings) -> (Kind, Failure) {
    let name = settings.remote.text
    let text = "\(error)"
    func make(_ message: String) -> (Kind, Failure) { (.misconfigured, Failure(code: BP_UNAVAILABLE, message)) }
    if case .unableToValidateCertificate = error { return wrongName(settings) }
    if case .uncleanShutdown = error {
      return (.lost, .unavailable("\(name) closed the connection before it had answered"))
    }
    if text.contains("CERTIFICATE_VERIFY_FAILED") {
      return make(
        "the certificate of \(name) is signed by nobody that is trusted here, or is not valid now; name its authority "
          + "in tls_ca_file")
    }
    if text.contains("WRONG_VERSION_NUMBER") || text.contains("HTTP_REQUEST") {
      return make("\(name) does not speak TLS; write http:// or correct the port")
    }
    if text.contains("CERTIFICATE_REQUIRED") || text.contains("HANDSHAKE_FAILURE") {
      return make(
        "\(name) refused the TLS handshake; it may want a client certificate (tls_certificate_file, "
          + "tls_private_key_file)")
    }
    return make("no TLS with \(name) came about; see its log, and what versions of TLS it offers")
  }
}
