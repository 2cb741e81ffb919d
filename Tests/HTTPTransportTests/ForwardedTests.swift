import Testing

@testable import HTTPTransport

/// The header `Forwarded` as the RFC writes it, and as nobody should.
@Suite struct ForwardedTests {
  private static func read(_ lines: String...) -> [IPAddress?]? { ForwardedHeader(lines)?.stations }

  @Test func whatTheRFCAllows() throws {
    let one = try #require(IPAddress("192.0.2.43"))
    let six = try #require(IPAddress("2001:db8:cafe::17"))
    let cases: [(String, [IPAddress?])] = [
      ("", []), (" , ,\t", []), ("for=192.0.2.43", [one]), ("FOR=192.0.2.43;", [one]), (";for=192.0.2.43", [one]),
      (#"for="192.0.2.43""#, [one]), (#"for="192.0.2.43:47011""#, [one]), (#"for="192.0.2.43:_port""#, [one]),
      (#"for="[2001:db8:cafe::17]""#, [six]), (#"for="[2001:db8:cafe::17]:4711""#, [six]),
      (#"for="\1\92.0.2.43""#, [one]), ("for=unknown", [nil]), ("for=_hidden", [nil]), ("for=_SEVKISEK", [nil]),
      (#"for="unknown:1""#, [nil]), ("proto=http;by=203.0.113.43", [nil]),
      ("for=192.0.2.43, for=_gazonk,for=192.0.2.43", [one, nil, one]),
      (#"host="a,b;for=192.0.2.1";for=192.0.2.43;proto=https"#, [one]),
      (#"for=192.0.2.43;extension="quo\"ted, \\""#, [one]),
    ]
    for (text, stations) in cases { #expect(Self.read(text) == stations, "\(text)") }
    #expect(Self.read("for=192.0.2.43", #"for="[2001:db8:cafe::17]""#) == [one, six])
  }

  @Test func whatItDoesNot() {
    let cases = [
      "for", "for=", "=192.0.2.43", "for =192.0.2.43", "for= 192.0.2.43", "for=192.0.2.43 ;proto=http",
      "for=192.0.2.43; proto=http", "for=192.0.2.43;for=192.0.2.44", "for=192.0.2.43;FOR=192.0.2.43",
      "for=192.0.2.43:80", "for=[2001:db8::1]", "for=2001:db8::1", #"for="2001:db8::1""#, #"for="[192.0.2.43]""#,
      #"for="[2001:db8::1""#, #"for="[2001:db8::1]x""#, #"for="[2001:db8::1]:""#, #"for="192.0.2.43:123456""#,
      #"for="192.0.2.43:x""#, #"for="192.0.2.43"#, #"for="192.0.2.43\"#, #"for="192.0.2.43"x"#, #"for="""#,
      "for=192.0.2.256", "for=192.0.2", "for=_", "for=example.org", "for=192.0.2.43 for=192.0.2.44", "for=\u{e4}",
      "for=192.0.2.43, x", "\u{0}for=192.0.2.43", "for=\"192.0.2.43\u{7f}\"", #"for=" 192.0.2.43""#,
    ]
    for text in cases {
      #expect(Self.read(text) == nil, "\(text)")
      // Not at the end either: nothing of it is believed.
      #expect(Self.read(text + ",for=192.0.2.9") == nil, "\(text)")
      #expect(Self.read(text, "for=192.0.2.9") == nil, "\(text)")
    }
  }

  /// Whatever a client sends, it does not pass for what the proxy behind which it stands has appended.
  @Test(arguments: 1...8) func aClientCannotHideWhatTheProxySays(_ seed: UInt64) throws {
    var random = Numbers(state: seed)
    let four = try #require(IPAddress("192.0.2.1"))
    let six = try #require(IPAddress("2001:db8:1::1"))
    let pieces = [
      "for", "=", "\"", "\\", ",", ";", " ", "\t", "[", "]", ":", "198.51.100.7", "2001:db8::1", "unknown", "_a",
      "proto", "http", "for=198.51.100.7", "for=\"[2001:db8::1]:1\"", "by=_b;", "\u{e4}", "\u{1}", "x",
    ]
    var readable = 0
    for _ in 0..<20_000 {
      let count = Int.random(in: 0...9, using: &random)
      let claim = (0..<count).map { _ in pieces.randomElement(using: &random)! }.joined()
      for (element, said) in [("for=192.0.2.1", four), (#"for="[2001:db8:1::1]""#, six)] {
        for lines in [[claim + ", " + element], [claim, element]] {
          guard let stations = ForwardedHeader(lines)?.stations else { continue }
          readable += 1
          let last = try #require(stations.last)
          #expect(last == said, "\(lines)")
        }
      }
    }
    // Often enough it was well-formed.
    #expect(readable > 1_000)
  }

  private struct Numbers: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var value = state
      value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
      value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
      return value ^ (value >> 31)
    }
  }
}
