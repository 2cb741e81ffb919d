import Foundation
import Testing

@testable import JSONText

@Suite struct Strings {
  @Test(arguments: [
    ("\"\"", ""), ("\"plain\"", "plain"), ("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\u{8}\u{c}\n\r\t"),
    ("\"\\u0000\\u00e9\\u20AC\\ud83d\\ude00é\"", "\u{0}é€😀é"), ("\"\\ud800x\"", "\u{FFFD}x"),
    ("\"\\ude00\\ud83d\"", "\u{FFFD}\u{FFFD}"), ("\"\\ud83d\\ud83d\\ude00\"", "\u{FFFD}😀"),
    ("\"\\ud83d\\n\"", "\u{FFFD}\n"),
  ])
  func unescaping(_ json: String, _ text: String) throws {
    try withValue(json) { value in
      #expect(value.text == text)
      var appended = Array("before".utf8)
      value.appendText(to: &appended)
      #expect(appended == Array(("before" + text).utf8))
      var scratch: [UInt8] = [1, 2, 3]
      let seen = value.withText(scratch: &scratch) { Array($0) }
      #expect(seen == Array(text.utf8))
      #expect((value.plainText != nil) == !json.contains("\\"))
    }
  }

  @Test func plainTextIsTheSliceItself() throws {
    try Array("\"abc\"".utf8).withUnsafeBytes { buffer in
      let value = try JSONScanner().scan(buffer).get()
      var scratch: [UInt8] = []
      let isSame = value.withText(scratch: &scratch) { $0.baseAddress == buffer.baseAddress.map { $0 + 1 } }
      #expect(isSame)
      #expect(scratch.isEmpty)
    }
  }

  @Test func loneSurrogatesKept() throws {
    try withValue("\"\\ud800\"") { value in
      var kept: [UInt8] = []
      value.appendText(to: &kept, loneSurrogates: .kept)
      #expect(kept == [0xED, 0xA0, 0x80])
    }
  }

  @Test func namesHoweverEscaped() throws {
    try withValue("\"\\u0074x\"") { #expect($0.isText("tx")) }
    try withValue("\"\\u0074xy\"") { #expect(!$0.isText("tx")) }
    try withValue("\"\\u0074\"") { #expect(!$0.isText("tx")) }
    try withValue("\"tx\"") { #expect($0.isText("tx") && !$0.isText("ty") && !$0.isText("t")) }
    try withValue("5") { #expect(!$0.isText("5") && $0.text == nil && $0.plainText == nil) }
  }

  @Test func writing() {
    var output: [UInt8] = []
    JSONWriter.appendString("a\"\\/\u{0}\u{1f}\u{8}\t\n\u{c}\r\u{7f}é\u{2028}😀", to: &output)
    #expect(
      String(decoding: output, as: UTF8.self)
        == "\"a\\\"\\\\/\\u0000\\u001f\\b\\t\\n\\f\\r\u{7f}é\u{2028}😀\"")
  }

  @Test func whatIsWrittenReadsBack() throws {
    var generator = SeededGenerator(seed: 11)
    let letters: [Unicode.Scalar] = ["a", "\"", "\\", "\n", "\u{1}", "é", "😀", "\u{7f}", "/", " ", "z"]
    for _ in 0..<2_000 {
      var text = ""
      for _ in 0..<Int.random(in: 0...40, using: &generator) {
        text.unicodeScalars.append(letters.randomElement(using: &generator) ?? "a")
      }
      var output: [UInt8] = []
      JSONWriter.appendString(text, to: &output)
      let back = try output.withUnsafeBytes { try JSONScanner().scan($0).get().text }
      #expect(back == text)
    }
  }
}

@Suite struct Numbers {
  /// RFC 8785, appendix B, and the neighbours of the layout's limits.
  @Test(
    arguments: [
      (0x0000_0000_0000_0000, "0"), (0x8000_0000_0000_0000, "0"), (0x0000_0000_0000_0001, "5e-324"),
      (0x8000_0000_0000_0001, "-5e-324"), (0x7FEF_FFFF_FFFF_FFFF, "1.7976931348623157e+308"),
      (0xFFEF_FFFF_FFFF_FFFF, "-1.7976931348623157e+308"), (0x4340_0000_0000_0000, "9007199254740992"),
      (0xC340_0000_0000_0000, "-9007199254740992"), (0x4430_0000_0000_0000, "295147905179352830000"),
      (0x44B5_2D02_C7E1_4AF5, "9.999999999999997e+22"), (0x44B5_2D02_C7E1_4AF6, "1e+23"),
      (0x44B5_2D02_C7E1_4AF7, "1.0000000000000001e+23"), (0x444B_1AE4_D6E2_EF4E, "999999999999999700000"),
      (0x444B_1AE4_D6E2_EF4F, "999999999999999900000"), (0x444B_1AE4_D6E2_EF50, "1e+21"),
      (0x3EB0_C6F7_A0B5_ED8C, "9.999999999999997e-7"), (0x3EB0_C6F7_A0B5_ED8D, "0.000001"),
      (0x41B3_DE43_5555_5553, "333333333.3333332"), (0x41B3_DE43_5555_5554, "333333333.33333325"),
      (0x41B3_DE43_5555_5555, "333333333.3333333"), (0x41B3_DE43_5555_5556, "333333333.3333334"),
      (0x41B3_DE43_5555_5557, "333333333.33333343"), (0xBECB_F647_612F_3696, "-0.0000033333333333333333"),
      (0x4314_3FF3_C1CB_0959, "1424953923781206.2"),
    ] as [(UInt64, String)])
  func printing(_ bits: UInt64, _ text: String) {
    var output: [UInt8] = []
    #expect(JSONNumber.append(Double(bitPattern: bits), to: &output))
    #expect(String(decoding: output, as: UTF8.self) == text)
  }

  @Test func notFinite() {
    var output: [UInt8] = []
    for value in [Double.infinity, -.infinity, .nan] { #expect(!JSONNumber.append(value, to: &output)) }
    #expect(output.isEmpty)
    #expect(throws: JSONError(kind: .numberNotFinite, offset: 3)) { try ordered("[1,-1e400]", .canonical) }
    #expect(throws: JSONError(kind: .numberNotFinite, offset: 0)) { try ordered("1.7976931348623159e308", .canonical) }
  }

  @Test func aRefusalLeavesTheOutputAlone() {
    var output = Array("kept".utf8)
    Array("[1,2,1e999]".utf8).withUnsafeBytes { buffer in
      _ = #expect(throws: JSONError.self) { try CanonicalText.append(buffer, order: .canonical, to: &output) }
    }
    #expect(output == Array("kept".utf8))
  }

  /// Halfway cases are decided by digits far behind; Swift's own parser is the judge.
  @Test func readingAgreesWithSwift() throws {
    var generator = SeededGenerator(seed: 7)
    var texts = [
      "2.4703282292062327208e-324", "2.4703282292062328e-324", "9007199254740993", "9007199254740992.999999",
      "9007199254740993." + String(repeating: "0", count: 900) + "1", "1e22", "1e23", "-0.0", "0e999999999999999999999",
      "123456789012345e22", "1e-22", "4.9e-324", "1e-325", "179769313486231580793728971405301e276", "1e309",
      String(repeating: "9", count: 309), "0." + String(repeating: "0", count: 400) + "1e401",
    ]
    for _ in 0..<20_000 {
      let value = Double(bitPattern: generator.next())
      guard value.isFinite else { continue }
      texts.append(value.description)
      // The exact middle between a double and the next one, and a hair above it.
      if value.magnitude < 1e15, value.magnitude > 1e3 {
        let middle = String(format: "%.60f", value) + "\(generator.next())"
        texts.append(middle)
      }
    }
    for text in texts {
      let value = try withValue(text) { try #require(JSONNumber.value(of: $0)) }
      #expect(value.bitPattern == Double(text)?.bitPattern, "\(text)")
    }
  }

  @Test func printingReadsBackAndKeepsTheLayout() throws {
    var generator = SeededGenerator(seed: 3)
    for round in 0..<20_000 {
      let random = Double(bitPattern: generator.next())
      let value = round % 3 == 0 ? Double(Int64(truncatingIfNeeded: generator.next() >> 3)) : random
      guard value.isFinite else { continue }
      var output: [UInt8] = []
      JSONNumber.append(value, to: &output)
      let text = String(decoding: output, as: UTF8.self)
      #expect(Double(text) == value)
      let magnitude = value.magnitude
      #expect(text.contains("e") == (magnitude != 0 && (magnitude >= 1e21 || magnitude < 1e-6)), "\(text)")
      // Printing what was printed changes nothing, and it is JSON.
      #expect(try ordered(text, .canonical) == text)
    }
  }
}

@Suite struct Order {
  @Test(arguments: [
    (
      "{\"a\":{\"z\":1,\"y\":{\"q\":1,\"p\":2}},\"A\":[{\"d\":1,\"c\":2},{\"f\":1,\"e\":2}],\"0\":{}}",
      "{\"0\":{},\"A\":[{\"c\":2,\"d\":1},{\"e\":2,\"f\":1}],\"a\":{\"y\":{\"p\":2,\"q\":1},\"z\":1}}"
    ),
    (
      "{\"x\":{\"b\":1,\"a\":2},\"x\":{\"d\":1,\"c\":2},\"w\":{\"f\":1,\"e\":2}}",
      "{\"w\":{\"e\":2,\"f\":1},\"x\":{\"c\":2,\"d\":1}}"
    ),
    ("{\"\\u0061\":1,\"a\":2}", "{\"a\":2}"),
    ("{\"\\ud83d\\ude00\":1,\"😀\":2,\"\\ufb33\":3,\"\\ud83d\":4}", "{\"\\ud83d\":4,\"😀\":2,\"\u{fb33}\":3}"),
    ("{\"x\":1e999,\"x\":1}", "{\"x\":1}"),
  ])
  func canonical(_ json: String, _ text: String) throws {
    #expect(try ordered(json, .canonical) == text)
  }

  @Test(arguments: [
    (
      "{\"b\":{\"2\":1,\"1\":2},\"3\":[{\"b\":1,\"0\":2}],\"b\":{\"9\":1,\"x\":2,\"8\":3}}",
      "{\"3\":[{\"0\":2,\"b\":1}],\"b\":{\"8\":3,\"9\":1,\"x\":2}}"
    ),
    (
      "{\"\\u0031\":1,\"0\":2,\"1\":3,\"00\":4,\"\":5,\"99999999999999999999\":6}",
      "{\"0\":2,\"1\":3,\"00\":4,\"\":5,\"99999999999999999999\":6}"
    ),
    ("[ [ ] , { } , -1.50 , -0 , \"\\/\" ]", "[[],{},-1.5,0,\"/\"]"),
  ])
  func signing(_ json: String, _ text: String) throws {
    #expect(try ordered(json, .signing) == text)
  }
}

@Suite struct Binary {
  private func decoded(_ text: String) -> [UInt8] {
    var output: [UInt8] = []
    Array(text.utf8).withUnsafeBytes { Base64.decodeLeniently($0, into: &output) }
    return output
  }

  @Test func lenientDecoding() {
    let want: [UInt8] = [0, 255, 0x68, 0x69]
    for text in [
      "AP9oaQ==", "AP9oaQ", "AP9oaQ=", "AP9!!oaQ", " A P\n9\toaQ==", "AP9oaQ==ignored", "éAP9oaQ", "AP9oaQ\0",
    ] {
      #expect(decoded(text) == want, "\(text)")
    }
    #expect(decoded("_-8") == decoded("/+8="))
    #expect(decoded("_+8") == [0xFF, 0xEF])
    #expect(decoded("") == [])
    #expect(decoded("A") == [])
    #expect(decoded("AAAAA") == [0, 0, 0])
    #expect(decoded("=AAAA") == [])
  }

  @Test func agreesWithFoundation() {
    var generator = SeededGenerator(seed: 5)
    for length in 0..<200 {
      let bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
      var encoded: [UInt8] = []
      bytes.withUnsafeBytes { Base64.encode($0, into: &encoded) }
      #expect(encoded == [UInt8](Data(bytes).base64EncodedData()))
      #expect(encoded.count == Base64.encodedCount(length))
      #expect(decoded(String(decoding: encoded, as: UTF8.self)) == bytes)
    }
  }

  @Test func markers() throws {
    let head = "{\"__b3nd_binary__\":true,\"encoding\":\"base64\""
    for (json, isMarker) in [
      (head + ",\"data\":\"AA\"}", true), (head + ",\"data\":\"AA\",\"x\":[1]}", true), (head + ",\"data\":5}", false),
      (head + "}", false), (head + ",\"data\":\"AA\",\"encoding\":\"hex\"}", false),
      (head + ",\"data\":\"AA\",\"__b3nd_binary__\":1}", false), (head + ",\"data\":1,\"data\":\"AA\"}", true),
      ("{\"__b3nd_binary__\":\"true\",\"encoding\":\"base64\",\"data\":\"AA\"}", false),
      ("{\"__b3nd_binary__\":true,\"data\":\"AA\"}", false), ("[]", false), ("null", false), ("{}", false),
      ("{\"__b3nd_binary__\":true,\"encoding\":\"b\\u0061se64\",\"d\\u0061ta\":\"AA\"}", true),
    ] {
      let found = try withValue(json) { BinaryMarker.find(in: $0) != nil }
      #expect(found == isMarker, "\(json)")
    }
  }

  @Test func markerRoundTrip() throws {
    let bytes: [UInt8] = (0...255).map { $0 }
    var json: [UInt8] = []
    bytes.withUnsafeBytes { BinaryMarker.append($0, to: &json) }
    try json.withUnsafeBytes { buffer in
      let data = try #require(BinaryMarker.find(in: try JSONScanner().scan(buffer).get()))
      var back: [UInt8] = []
      BinaryMarker.decode(data, into: &back)
      #expect(back == bytes)
    }
    // JSON escapes inside the data are resolved first.
    try withValue("\"\\/+8\\u003d\"") { value in
      var back: [UInt8] = []
      BinaryMarker.decode(value, into: &back)
      #expect(back == [0xFF, 0xEF])
    }
  }
}
