import Foundation
import Testing

@testable import MessageCrypto

@Suite struct HexadecimalTests {
  @Test func bothCasesInLowerCaseOut() {
    let all = (0...255).map { UInt8($0) }
    let text = Hexadecimal.text(all)
    #expect(text.hasPrefix("000102") && text.hasSuffix("fdfeff"))
    #expect(Hexadecimal.decode(text) == all)
    #expect(Hexadecimal.decode(text.uppercased()) == all)
    #expect(Hexadecimal.decode("") == [])
    var output: [UInt8] = [0x78]
    all.withUnsafeBytes { Hexadecimal.append($0, to: &output) }
    #expect(String(decoding: output, as: UTF8.self) == "x" + text)
  }

  @Test func everythingElseIsRefused() {
    for text in ["0", "abc", "0x", "0g", "g0", " 0", "0 ", "+1", "-1", "é", "00 00", "0\u{0}"] {
      #expect(Hexadecimal.decode(text) == nil, "\(text)")
    }
    for byte in 0...255 {
      let isDigit = (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
      let pairs: [[UInt8]] = [[UInt8(byte), 0x30], [0x30, UInt8(byte)]]
      for pair in pairs { #expect((pair.withUnsafeBytes { Hexadecimal.decode($0) } != nil) == isDigit) }
    }
    var room: [UInt8] = [0, 0]
    #expect(
      !Array("00".utf8).withUnsafeBytes { text in room.withUnsafeMutableBytes { Hexadecimal.decode(text, into: $0) } })
  }
}

@Suite struct KeyTextTests {
  private let pem = """
    -----BEGIN PRIVATE KEY-----
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
    -----END PRIVATE KEY-----
    """
  private let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
  private let data = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"

  private func problem(_ text: String) -> KeyFormatError? {
    do {
      _ = try privateKey(pem: text)
      return nil
    } catch { return error as? KeyFormatError }
  }

  @Test func everyShapeOfAPEMIsRead() throws {
    for text in [
      pem, pem + "\n", pem.replacingOccurrences(of: "\n", with: "\r\n"), pem.replacingOccurrences(of: "\n", with: "\r"),
      pem.replacingOccurrences(of: "\n", with: "\\n"), pem.replacingOccurrences(of: "\n", with: "\\r\\n") + "\\n",
      pem.replacingOccurrences(of: "\n", with: "\n \t "), "\n\n  " + pem + "  \n\n", data, "  " + data + "\r\n",
      data.prefix(20) + "\n" + data.dropFirst(20), "---\n" + data, "-----BEGIN PRIVATE KEY-----\n" + data,
      pem.replacingOccurrences(of: "PRIVATE KEY", with: "ANYTHING"),
      pem + "\nPUBLIC_KEY_HEX=d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n",
      "a comment\n" + pem,
    ] as [String] {
      #expect(problem(text) == nil, "\(text)")
      if problem(text) == nil { #expect(try privateKey(pem: text).secret.hex == seed) }
    }
  }

  @Test func whatIsNoPEMSaysWhy() throws {
    for text in [
      "", "\n", "---", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", " \t\\n\\n", "-----END X-----\n",
    ] {
      #expect(problem(text) == .noKeyData, "\(text)")
    }
    #expect("\(KeyFormatError.noKeyData)" == "Invalid PEM: no key data")
    for text in [
      "!", data + "!", "PUBLIC_KEY_HEX=00", "é" + data, data.dropLast() + "=", data + "A", data + "=",
      data.replacingOccurrences(of: "/", with: "_"), data.prefix(20) + " " + data.dropFirst(20), "\\x" + data, "====",
    ] as [String] {
      #expect(problem(text) == .notBase64, "\(text)")
    }
    #expect(problem(pem + "\n" + pem) == .severalKeys)
    #expect(problem(String(repeating: "A", count: PEM.textSizeBytesMax + 1)) == .tooLong(limitBytes: 65536))
    // A public key, and a private one of RSA.
    #expect(
      problem("MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=") == .notPrivateKey(sizeBytes: 44))
    #expect("\(KeyFormatError.notPrivateKey(sizeBytes: 44))".hasPrefix("The 44 bytes are not an unencrypted PKCS#8"))
    #expect(problem(data.replacingOccurrences(of: "K2Vw", with: "K2Vx")) == .notPrivateKey(sizeBytes: 48))
  }

  @Test func pkcs8IsTheTwoPrefixesAndNothingElse() throws {
    let whole = try privateKey(pem: pem).pkcs8.withUnsafeBytes { Array($0) }
    #expect(whole.count == 48)
    for count in 0..<48 {
      #expect(throws: KeyFormatError.notPrivateKey(sizeBytes: count)) { try privateKey(pkcs8: Array(whole[..<count])) }
    }
    #expect(throws: KeyFormatError.notPrivateKey(sizeBytes: 49)) { try privateKey(pkcs8: whole + [0]) }
    for bit in 0..<(16 * 8) {
      var changed = whole
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: KeyFormatError.notPrivateKey(sizeBytes: 48), "bit \(bit)") { try privateKey(pkcs8: changed) }
    }
    let hex = Hexadecimal.text(whole)
    #expect(try privateKey(pkcs8Hex: hex.uppercased()).secret.hex == seed)
    #expect(throws: KeyFormatError.notHexadecimal) { try privateKey(pkcs8Hex: String(hex.dropLast())) }
    #expect(throws: KeyFormatError.notHexadecimal) { try privateKey(pkcs8Hex: hex.dropLast() + "g") }
    #expect(throws: KeyFormatError.notPrivateKey(sizeBytes: 32)) { try privateKey(pkcs8Hex: seed) }
  }

  @Test func linesHave64Characters() throws {
    let long = SecretBytes(randomCount: 100)
    let lines = PEM.encode(long).text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.map(\.count) == [27, 64, 64, 8, 25])
    for count in 1...100 {
      let bytes = SecretBytes(randomCount: count)
      let expected = bytes.withUnsafeBytes { Data($0).base64EncodedString(options: .lineLength64Characters) }
      let text = PEM.encode(bytes)
      #expect(text.text.replacingOccurrences(of: "\n", with: "").contains(expected.filter { !$0.isWhitespace }))
      #expect(try text.withUnsafeBytes { try PEM.decode($0) } == bytes)
    }
  }

  /// Base64 as another reader understands it, where that one is as strict.
  @Test func base64() {
    var generator = SeededGenerator(seed: 3)
    let alphabet = Array("ABab019+/=-_ \n".utf8)
    var good = 0
    for _ in 0..<20_000 {
      let text = (0..<Int.random(in: 0...8, using: &generator)).map { _ in
        alphabet.randomElement(using: &generator) ?? 0
      }
      let decoded = text.withUnsafeBytes { Base64Reader.decode($0) }
      guard let decoded else { continue }
      good += 1
      let unpadded = text.filter { $0 != UInt8(ascii: "=") }
      #expect(Data(decoded).base64EncodedString().filter { $0 != "=" } == String(decoding: unpadded, as: UTF8.self))
      #expect(text.count == unpadded.count || text.count % 4 == 0)
    }
    #expect(good > 500)
  }

  @Test func fuzz() throws {
    var generator = SeededGenerator(seed: 7)
    let pieces = [
      "-----BEGIN ", "-----END ", "-----", "---", "\n", "\r\n", "\\n", "\\", "=", "A", " ", "\t", "\u{0}", "é", data,
    ]
    var read = 0
    for round in 0..<20_000 {
      var text = Array((round % 2 == 0 ? pem : "").utf8)
      for _ in 0..<Int.random(in: 1...6, using: &generator) {
        let place = Int.random(in: 0...text.count, using: &generator)
        if Bool.random(using: &generator) || place == text.count {
          text.insert(contentsOf: pieces.randomElement(using: &generator)?.utf8 ?? "".utf8, at: place)
        } else {
          text[place] = UInt8.random(in: 0...255, using: &generator)
        }
      }
      do {
        let key = try text.withUnsafeBytes { try PrivateKey(pem: $0) }
        read += 1
        try #require(try privateKey(pem: key.pem.text).pkcs8 == key.pkcs8)
      } catch is KeyFormatError {}
    }
    #expect(read > 1000)
  }
}
