import NIOCore
import NIOHTTP1
import TransportSupport

/// Tokens, rights, origins and rates, between a request's head and its body.
extension Connection {
  /// Has the policy look at a request whose head has come.
  func admit(_ head: HTTPRequestHead, _ access: AccessPolicy) -> AccessPolicy.Verdict {
    let method = Method(head.method)
    let route = head.uri.utf8.withContiguousStorageIfAvailable { loop.route(of: RequestTarget($0, method: method)) }
    let verdict = access.judge(
      head, route: route ?? .unrouted, peer: IPAddress(context?.channel.remoteAddress), nowNs: coarseMonotonicNs())
    switch verdict.refusal {
    case .none: break
    case .tooManyRequests: loop.counters.rateLimited += 1
    default: loop.counters.denied += 1
    }
    return verdict
  }

  /// In the shape that the route's failures have.
  func answerDenial(_ request: Request) {
    let target = request.target.utf8.withContiguousStorageIfAvailable {
      loop.route(of: RequestTarget($0, method: request.method))
    }
    route = target ?? .unrouted
    let body = errorBody(Array(request.refusal.text(loop.limits).utf8))
    let challenge: StaticString =
      switch request.refusal {
      case .tokenMissing: "www-authenticate: Bearer\r\n"
      case .unknownToken: "www-authenticate: Bearer error=\"invalid_token\"\r\n"
      case .rightMissing: "www-authenticate: Bearer error=\"insufficient_scope\"\r\n"
      default: ""
      }
    answer(
      request.refusal.status, "application/json", bodyLength: body.count, extra: challenge,
      retryAfterSeconds: UInt64(request.retryAfterSeconds)
    ) { $0.put(body) }
  }
}
