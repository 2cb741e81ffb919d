import NIOCore
import NIOHTTP1
import TransportSupport

/// Who may do what and how often. Absent as a whole when the configuration asks for none of it.
final class AccessPolicy: Sendable {
  /// What is decided for a request.
  struct Verdict {
    var refusal = Refusal.none
    /// Of `tooManyRequests`.
    var retryAfterSeconds: UInt64 = 0
    /// What the client may do, whatever this request asks for.
    var rights = Rights.all
    /// Of a request to become a WebSocket: counts a message; 0, or after how many seconds one may come.
    var meter: (@Sendable () -> UInt64)?
  }

  /// Where trusted proxies say who their client is. Only one: the other passes them as the client wrote it.
  enum ClientAddressHeader: String, Sendable {
    case xForwardedFor = "x-forwarded-for"
    case forwarded
  }

  private let tokens: Tokens
  private let hasTokens: Bool
  private let anonymous: Rights
  /// In lower case; nil: any.
  private let origins: Set<String>?
  private let limiter: RateLimiter?
  private let isLimitedByToken: Bool
  private let trustedProxies: [AddressRange]
  private let clientAddressHeader: ClientAddressHeader

  init(
    tokens: [Tokens.Token], anonymous: Rights, origins: Set<String>?, limiter: RateLimiter?, isLimitedByToken: Bool,
    trustedProxies: [AddressRange], clientAddressHeader: ClientAddressHeader
  ) {
    self.tokens = Tokens(tokens)
    hasTokens = !tokens.isEmpty
    self.anonymous = anonymous
    self.origins = origins
    self.limiter = limiter
    self.isLimitedByToken = isLimitedByToken
    self.trustedProxies = trustedProxies
    self.clientAddressHeader = clientAddressHeader
  }

  /// Looks at a request before its body is taken in.
  /// - Parameter peer: the other end of the socket; nil: not an IP address.
  func judge(_ head: HTTPRequestHead, route: Route, peer: IPAddress?, nowNs: UInt64) -> Verdict {
    let needed = Rights.needed(for: route)
    var token: Int?
    var showsUnknown = false
    if hasTokens, let value = head.headers.first(name: "authorization") {
      token = tokens.find(authorization: value)
      showsUnknown = token == nil
    } else if hasTokens, route == .webSocket, let value = RequestTarget.token(in: head.uri) {
      // A page's script cannot set a header for a WebSocket.
      token = tokens.find(value)
      showsUnknown = token == nil
    }
    var meter: (@Sendable () -> UInt64)?
    if let limiter, needed != .health {
      let client = client(head, token: token, peer: peer)
      let retryAfter = limiter.admit(client, nowNs: nowNs)
      if route == .webSocket { meter = { limiter.admit(client, nowNs: coarseMonotonicNs()) } }
      if retryAfter > 0 { return Verdict(refusal: .tooManyRequests, retryAfterSeconds: retryAfter) }
    }
    if needed.isEmpty { return Verdict() }
    let rights = token.map { tokens[$0].rights.union(anonymous) } ?? anonymous
    if showsUnknown { return Verdict(refusal: .unknownToken) }
    // What goes over a WebSocket is judged request by request: whoever may do any of it may connect.
    let suffices = route == .webSocket ? !rights.isDisjoint(with: .messages) : rights.isSuperset(of: needed)
    if !suffices {
      return Verdict(refusal: token == nil && hasTokens ? .tokenMissing : .rightMissing)
    }
    if let origins, route.changesState {
      for origin in head.headers["origin"] where !origins.contains(origin.lowercased()) {
        return Verdict(refusal: .foreignOrigin)
      }
    }
    return Verdict(rights: rights, meter: meter)
  }

  private func client(_ head: HTTPRequestHead, token: Int?, peer: IPAddress?) -> ClientKey {
    if isLimitedByToken, let token { return ClientKey(token: token) }
    guard var address = peer else { return ClientKey(IPAddress(high: 0, low: 0)) }
    guard isTrusted(address) else { return ClientKey(address) }
    // From the nearest on: each is believed as long as who said it is.
    for station in stations(head).reversed() {
      guard let named = station else { break }
      address = named
      if !isTrusted(named) { break }
    }
    return ClientKey(address)
  }

  /// What the trusted header says, the nearest station last; nil: one that is not known.
  private func stations(_ head: HTTPRequestHead) -> [IPAddress?] {
    let lines = head.headers[clientAddressHeader.rawValue]
    switch clientAddressHeader {
    case .xForwardedFor: return lines.flatMap { $0.split(separator: ",") }.map { IPAddress(forwarded: $0) }
    case .forwarded: return ForwardedHeader(lines)?.stations ?? []
    }
  }

  private func isTrusted(_ address: IPAddress) -> Bool { trustedProxies.contains { $0.contains(address) } }
}

extension Route {
  /// Whether a foreign page must not get it done in the name of who looks at it.
  fileprivate var changesState: Bool {
    switch self {
    case .read, .readMulti, .list, .schema, .health, .live, .ready, .metrics, .options, .unrouted, .refused: false
    default: true
    }
  }
}
