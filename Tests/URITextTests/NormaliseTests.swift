import Testing
import URIText

@Suite struct NormaliseTests {
  /// Expected values were taken from a WHATWG URL implementation (program from protocol and hostname, segments from
  /// pathname), save where the documentation of URIText names a difference.
  @Test(arguments: [
    ("mutable://open/a//../b", "mutable://open/a/b"),
    ("mutable://open/%2e/a/%2E%2e/b", "mutable://open/b"),
    ("mutable://open/.%2e/..%2f", "mutable://open/..%2f"),
    ("mutable://open/...", "mutable://open/..."),
    ("mutable://open/a/..", "mutable://open"),
    ("mutable:/x/y", "mutable:///x/y"),
    ("mutable:", "mutable://"),
    ("mutable:x../a", "mutable:///a"),
    ("mutable:é", "mutable:///C3%A9"),
    ("mutable://a@b@open/x", "mutable://open/x"),
    ("mutable://open:/x", "mutable://open/x"),
    ("mutable://o{}\"`pen/x", "mutable://o{}\"`pen/x"),
    ("mutable://open?q/x", "mutable://open"),
    ("mutable://open/\u{7F}\u{1}x", "mutable://open/%7F%01x"),
    ("\u{1} mu\ttable:\n//op\ren/x\u{0}", "mutable://open/x"),
    ("mutable://[1:0:0:0:0:0:0:1]/x", "mutable://[1::1]/x"),
    ("mutable://[::]/x", "mutable://[::]/x"),
    ("mutable://[::FFFF:1.2.3.4]:8/x", "mutable://[::ffff:102:304]/x"),
    ("mutable://[1:0:0:2:0:0:0:3]/x", "mutable://[1:0:0:2::3]/x"),
    ("mutable://[1:0:2:3:4:5:6:7]/x", "mutable://[1:0:2:3:4:5:6:7]/x"),
    ("http:\\\\EX.com\\a\\..\\b", "http://ex.com/b"),
    ("http://ex%41mple.com/%41", "http://example.com/%41"),
    ("http://0x7f.1/x", "http://127.0.0.1/x"),
    ("http://017700000001", "http://127.0.0.1"),
    ("http://1.2.3.4./", "http://1.2.3.4"),
    ("http:ex.com", "http://ex.com"),
    ("http:////ex.com//a", "http://ex.com/a"),
    ("file:///C|/../x", "file:///C:/x"),
    ("file://C:/x", "file:///C:/x"),
    ("file://localhost/x", "file:///x"),
    ("file://Host/x", "file://host/x"),
    ("file:x", "file:///x"),
    ("file:////C|/x", "file:///C:/x"),
  ])
  func normalForm(input: String, expected: String) {
    #expect(URIText.normalise(input)?.text == expected)
    #expect(URIText.normalise(expected)?.text == expected)
  }

  @Test(arguments: [
    "", ":", "://x", "mutable", "-a://x", "mu table://x", "mutable://:9/x", "mutable://u@/x", "mutable://o:9x/",
    "mutable://o:65536/", "mutable://o^p/", "mutable://o|p/", "mutable://o\\p/", "mutable://o[p/", "mutable://[::1/",
    "mutable://[:1]/", "mutable://[1:2:3:4:5:6:7]/", "mutable://[::1:2:3:4:5:6:7:8]/", "mutable://[::01.2.3.4]/",
    "mutable://[1:]/", "mutable://[]/", "mutable://o\u{0}p/", "http://", "http:///?x", "http://@/x", "http://a%2Fb/",
    "http://a%00b/", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://1..2/", "http://é/", "file://a:9/x",
  ])
  func invalid(input: String) {
    #expect(URIText.normalise(input) == nil)
  }

  @Test(arguments: [
    ("mut%61ble", "o%70en", "a%20b/c", "mutable://open/a%20b/c"),
    ("mutable", "open", "", "mutable://open"),
    ("mutable", "open", "/", "mutable://open"),
    ("mutable", "open", "a\\b", "mutable://open/a/b"),
    ("mutable", "open", "\\a\\..\\b", "mutable://open/b"),
    ("mutable", "%C3%A9", "x", "mutable://%C3%A9/x"),
    ("mutable", "%FF%C3", "x", "mutable://%FF%C3/x"),
    ("mutable", "a%2Fb", "x", "mutable://a/b/x"),
    ("mutable", "o%09pen", "x/./\t", "mutable://open/x"),
  ])
  func fromPath(scheme: String, domain: String, rest: String, expected: String) {
    #expect(URIText.fromPath(scheme: scheme, domain: domain, rest: rest)?.text == expected)
  }

  @Test(arguments: [("", "x", ""), ("9bad", "x", ""), ("mutable", "o%20pen", "x"), ("mutable", "o%3Cpen", "x")])
  func fromPathInvalid(scheme: String, domain: String, rest: String) {
    #expect(URIText.fromPath(scheme: scheme, domain: domain, rest: rest) == nil)
  }

  @Test func aNormalFormNeedsNoScratch() {
    for var text in ["mutable://open", "mutable://open/a/%C3%A9/b..c/.d", "mutable:///x"] {
      let outcome = text.withUTF8 { URIText.normalise($0, into: UnsafeMutableBufferPointer(start: nil, count: 0)) }
      guard case .unchanged(let programLength) = outcome else {
        Issue.record("\(text): \(outcome)")
        continue
      }
      #expect(programLength == (text.hasPrefix("mutable:///") ? 10 : 14))
    }
  }

  @Test func aScratchThatIsTooSmallIsReported() {
    var text = "MUTABLE://open/é"
    let outcome = text.withUTF8 { input in
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 12) { URIText.normalise(input, into: $0) }
    }
    #expect(outcome == .tooLong)
  }
}
