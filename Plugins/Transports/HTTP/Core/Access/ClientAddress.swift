import Glibc
import NIOCore

/// An IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`.
struct IPAddress: Hashable, Sendable {
  var high: UInt64
  var low: UInt64

  init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  init(v4 address: UInt32) { self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(address)) }

  var isV4: Bool { high == 0 && low >> 32 == 0xFFFF }

  /// Of the other end of a socket; nil: it has none.
  init?(_ address: SocketAddress?) {
    switch address {
    case .v4(let address): self.init(v4: UInt32(bigEndian: address.address.sin_addr.s_addr))
    case .v6(let address): self.init(address.address.sin6_addr)
    default: return nil
    }
  }

  private init(_ address: in6_addr) {
    var address = address
    self = withUnsafeBytes(of: &address) { bytes in
      IPAddress(
        high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)),
        low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
  }

  /// "192.0.2.7" or "2001:db8::1".
  init?(_ text: some StringProtocol) {
    guard text.utf8.count <= 45 else { return nil }
    let text = String(text)
    var four = in_addr()
    var six = in6_addr()
    if inet_pton(AF_INET, text, &four) == 1 {
      self.init(v4: UInt32(bigEndian: four.s_addr))
    } else if inet_pton(AF_INET6, text, &six) == 1 {
      self.init(six)
    } else {
      return nil
    }
  }

  /// As it may stand in X-Forwarded-For: with a port, or in brackets.
  init?(forwarded text: some StringProtocol) {
    var text = Substring(text)
    while text.first == " " || text.first == "\t" { text.removeFirst() }
    while text.last == " " || text.last == "\t" { text.removeLast() }
    if text.first == "[", let end = text.firstIndex(of: "]") {
      text = text[text.index(after: text.startIndex)..<end]
    } else if let colon = text.firstIndex(of: ":"), colon == text.lastIndex(of: ":") {
      text = text[..<colon]
    }
    self.init(text)
  }
}

/// "10.0.0.0/8", "2001:db8::/32", or one address.
struct AddressRange: Sendable {
  private let first: IPAddress
  private let highMask: UInt64
  private let lowMask: UInt64

  init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count <= 2, let address = IPAddress(parts[0]) else { return nil }
    let width = address.isV4 && !parts[0].contains(":") ? 32 : 128
    var length = width
    if parts.count == 2 {
      guard let given = Int(parts[1]), (0...width).contains(given) else { return nil }
      length = given
    }
    length += 128 - width
    highMask = length >= 64 ? .max : length == 0 ? 0 : .max << UInt64(64 - length)
    lowMask = length <= 64 ? 0 : length >= 128 ? .max : .max << UInt64(128 - length)
    first = IPAddress(high: address.high & highMask, low: address.low & lowMask)
  }

  func contains(_ address: IPAddress) -> Bool {
    address.high & highMask == first.high && address.low & lowMask == first.low
  }
}
