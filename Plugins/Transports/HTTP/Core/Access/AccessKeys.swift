/// One entry of the slot's `tokens`. docs/http.md has the table.
struct TokenKeys: Decodable, Sendable {
  var name: String?
  /// The text that clients send; a secret.
  var token: String?
  /// In its place, 64 hexadecimal digits.
  var sha256: String?
  var allow: [String]?
}

/// The slot's `rate_limit`.
struct RateLimitKeys: Decodable, Sendable {
  var requestsPerSecond: Double?
  var burst: Int?
  var by: String?
  var clientsMax: Int?

  enum CodingKeys: String, CodingKey {
    case requestsPerSecond = "requests_per_second"
    case burst
    case by
    case clientsMax = "clients_max"
  }
}

/// The keys that say who may do what.
struct AccessKeys: Sendable {
  var tokens: [TokenKeys]?
  var anonymous: [String]?
  var origins: [String]?
  var rateLimit: RateLimitKeys?
  var trustedProxies: [String]?
  var clientAddressHeader: String?

  var isEmpty: Bool { tokens == nil && anonymous == nil && origins == nil && rateLimit == nil }
}
