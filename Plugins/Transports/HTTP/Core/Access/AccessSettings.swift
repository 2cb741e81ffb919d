import PluginAPI

extension AccessPolicy {
  /// The policy that these keys stand for; nil: none.
  convenience init?(_ keys: AccessKeys, problems: inout [ConfigurationProblem]) {
    let count = problems.count
    var reader = AccessReader()
    let tokens = reader.tokens(keys.tokens ?? [])
    let anonymous = keys.anonymous.map { reader.rights($0, "/anonymous") } ?? (tokens.isEmpty ? .all : .health)
    let origins = keys.origins.map { reader.origins($0) }
    let limiter = keys.rateLimit.flatMap { reader.limiter($0) }
    let proxies = reader.proxies(keys.trustedProxies ?? [], isUsed: keys.rateLimit != nil)
    let header = reader.header(keys.clientAddressHeader, isUsed: !(keys.trustedProxies ?? []).isEmpty)
    problems += reader.problems
    guard problems.count == count, !keys.isEmpty else { return nil }
    self.init(
      tokens: tokens, anonymous: anonymous, origins: origins, limiter: limiter,
      isLimitedByToken: keys.rateLimit?.by == "token", trustedProxies: proxies,
      clientAddressHeader: header)
  }
}

/// Checks the keys that say who may do what. No text of a token, and no digest, is ever repeated.
private struct AccessReader {
  var problems: [ConfigurationProblem] = []
  private static let tokensMax = 1_000

  private mutating func refuse(_ pointer: String, _ message: String) {
    problems.append(ConfigurationProblem(pointer: pointer, message: message))
  }

  mutating func tokens(_ keys: [TokenKeys]) -> [Tokens.Token] {
    guard keys.count <= Self.tokensMax else {
      refuse("/tokens", "There are \(keys.count) tokens; \(Self.tokensMax) may be.")
      return []
    }
    var names: Set<String> = []
    var digests: Set<[UInt8]> = []
    return keys.enumerated().map { index, keys in
      let pointer = "/tokens/\(index)"
      let name = keys.name ?? ""
      if name.isEmpty || name.utf8.count > 64 || !name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) {
        refuse("\(pointer)/name", "A token needs a name of 1 to 64 printable ASCII characters without spaces.")
      } else if !names.insert(name).inserted {
        refuse("\(pointer)/name", "Two tokens are named \(name); give each a name of its own.")
      }
      let digest = digest(keys, pointer)
      if let digest, !digests.insert(digest).inserted {
        refuse(pointer, "This token is the same as an earlier one; each needs a text of its own.")
      }
      if keys.allow == nil { refuse("\(pointer)/allow", "allow is missing: list what the token may do.") }
      return .init(name: name, digest: digest ?? [], rights: rights(keys.allow ?? [], "\(pointer)/allow"))
    }
  }

  private mutating func digest(_ keys: TokenKeys, _ pointer: String) -> [UInt8]? {
    switch (keys.token, keys.sha256) {
    case (let token?, nil):
      guard token.utf8.count >= 16, token.utf8.count <= 4096, token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
        refuse("\(pointer)/token", "A token must be 16 to 4096 printable ASCII characters without spaces.")
        return nil
      }
      return Tokens.digest(token)
    case (nil, let text?):
      let digits = text.utf8.compactMap(Self.digit)
      guard digits.count == 64, text.utf8.count == 64 else {
        refuse("\(pointer)/sha256", "sha256 must be 64 hexadecimal digits: printf %s TOKEN | sha256sum")
        return nil
      }
      return stride(from: 0, to: 64, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    case (nil, nil):
      refuse(pointer, "A token needs its text, as token or token_file, or the sha256 of it.")
      return nil
    case (_?, _?):
      refuse(pointer, "Give token or sha256, not both.")
      return nil
    }
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x61...0x66: byte - 0x57
    case 0x41...0x46: byte - 0x37
    default: nil
    }
  }

  mutating func rights(_ names: [String], _ pointer: String) -> Rights {
    var rights: Rights = []
    for (index, name) in names.enumerated() {
      if let known = Rights.named.first(where: { $0.name == name }) {
        rights.formUnion(known.right)
      } else {
        refuse(
          "\(pointer)/\(index)",
          "There is no such right; there are \(Rights.named.map(\.name).joined(separator: ", ")).")
      }
    }
    return rights
  }

  mutating func origins(_ texts: [String]) -> Set<String> {
    for (index, text) in texts.enumerated() {
      let parts = text.split(separator: "://", maxSplits: 1, omittingEmptySubsequences: false)
      let isOrigin =
        text == "null"
        || (parts.count == 2 && !parts[0].isEmpty && !parts[1].isEmpty && !parts[1].contains("/")
          && text.utf8.count <= 2048 && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F })
      if !isOrigin {
        refuse("/origins/\(index)", "An origin is a scheme and a host, such as https://app.example, without a path.")
      }
    }
    return Set(texts.map { $0.lowercased() })
  }

  mutating func limiter(_ keys: RateLimitKeys) -> RateLimiter? {
    let count = problems.count
    let rate = keys.requestsPerSecond ?? 0
    if keys.requestsPerSecond == nil {
      refuse("/rate_limit/requests_per_second", "requests_per_second is missing.")
    } else if !(rate >= 0.001 && rate <= 1_000_000) {
      refuse("/rate_limit/requests_per_second", "requests_per_second must be between 0.001 and 1000000.")
    }
    let burst = keys.burst ?? max(1, Int(min(rate, 1_000_000).rounded(.up)))
    if !(1...1_000_000).contains(burst) {
      refuse("/rate_limit/burst", "burst is \(burst); set it to between 1 and 1000000 requests.")
    }
    let clientsMax = keys.clientsMax ?? 10_000
    if !(1...10_000_000).contains(clientsMax) {
      refuse("/rate_limit/clients_max", "clients_max is \(clientsMax); set it to between 1 and 10000000 clients.")
    }
    if let by = keys.by, by != "address", by != "token" {
      refuse("/rate_limit/by", "by must be address or token.")
    }
    guard problems.count == count else { return nil }
    return RateLimiter(requestsPerSecond: rate, burst: burst, clientsMax: clientsMax)
  }

  mutating func header(_ name: String?, isUsed: Bool) -> AccessPolicy.ClientAddressHeader {
    guard let name else { return .xForwardedFor }
    if !isUsed {
      refuse(
        "/client_address_header",
        "client_address_header is for trusted_proxies, of which there are none; list them or leave this out.")
    }
    guard let header = AccessPolicy.ClientAddressHeader(rawValue: name.lowercased()) else {
      refuse("/client_address_header", "client_address_header must be x-forwarded-for or forwarded.")
      return .xForwardedFor
    }
    return header
  }

  mutating func proxies(_ texts: [String], isUsed: Bool) -> [AddressRange] {
    if !texts.isEmpty, !isUsed {
      refuse("/trusted_proxies", "trusted_proxies is for rate_limit, which is not set; set it or leave this out.")
    }
    return texts.enumerated().compactMap { index, text in
      if let range = AddressRange(text) { return range }
      refuse("/trusted_proxies/\(index)", "This is no address and no range such as 10.0.0.0/8 or 2001:db8::/32.")
      return nil
    }
  }
}
