import Foundation
import VectorTesting
import Testing

/// Keys and messages through the executable, as an operator's hands and scripts use it.
@Suite struct KeyCommandTests {
  /// Runs `backplane` in `folder`.
  private func run(
    _ folder: TestFolder, _ arguments: String..., input: String = "", environment: [String: String] = [:]
  ) async throws -> CommandLineRun {
    try await CommandLineRun.run(arguments, environment: environment, directory: folder.path, input: input)
  }

  private func publicKey(_ folder: TestFolder, _ file: String) async throws -> String {
    let shown = try await run(folder, "keys", "convert", file, "--to", "public-hex")
    try #require(shown.status == 0, "\(shown)")
    return String(shown.output.dropLast())
  }

  private func mode(_ path: String) throws -> Int {
    try #require(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
  }

  @Test func aKeyFileIsItsOwnersAndIsNotReplaced() async throws {
    let folder = try TestFolder()
    let file = folder.path + "/a.pem"
    let made = try await run(folder, "keys", "generate", "--output", "a.pem")
    #expect(made.status == 0, "\(made)")
    let text = try String(contentsOfFile: file, encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.count == 5 && lines[0] == "-----BEGIN PRIVATE KEY-----" && lines[2] == "-----END PRIVATE KEY-----")
    #expect(lines[1].count == 64 && lines[3].hasPrefix("PUBLIC_KEY_HEX=") && lines[3].count == 79 && lines[4] == "")
    #expect(try mode(file) == 0o600)
    #expect(made.output.contains(lines[3].dropFirst(15)) && !(made.output + made.error).contains(lines[1]))

    let again = try await run(folder, "keys", "generate", "--output", "a.pem", "--json")
    #expect(again.status == 64 && again.error.contains("is there already"))
    #expect(again.error.hasPrefix(#"{"error":{"code":"usage""#))
    #expect(try String(contentsOfFile: file, encoding: .utf8) == text)
    let forced = try await run(folder, "keys", "generate", "--type", "x25519", "--output", "a.pem", "--force")
    #expect(forced.status == 0)
    #expect(try mode(file) == 0o600)
    #expect(try String(contentsOfFile: file, encoding: .utf8) != text)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["a.pem"])
    #expect(try await run(folder, "keys", "generate", "--output", "none/a.pem").status == 64)
  }

  @Test func everyFormatIsThatOfTheReference() async throws {
    let item = try #require(try SharedVectors.list("ed25519").first)
    let encryption = try #require(try SharedVectors.list("encrypted").first)
    let expected: [(type: String, pem: String?, pkcs8: String, seed: String, publicKey: String)] = [
      (
        "ed25519", item["pem"] as? String, item["pkcs8Hex"] as? String ?? "", item["seed"] as? String ?? "",
        item["publicKeyHex"] as? String ?? ""
      ),
      (
        "x25519", nil, encryption["recipientPkcs8Hex"] as? String ?? "",
        encryption["recipientPrivateRawHex"] as? String ?? "", encryption["recipientPublicKeyHex"] as? String ?? ""
      ),
    ]
    for key in expected {
      let folder = try TestFolder(["key": key.pkcs8 + "\n", "seed": key.seed])
      let pem = try await run(folder, "keys", "convert", "key", "--to", "pem").output
      if let expected = key.pem { #expect(pem == expected + "\n") }
      let environment = ["KEY": pem.replacingOccurrences(of: "\n", with: "\\n")]
      for (target, text) in [("pkcs8-hex", key.pkcs8), ("seed-hex", key.seed), ("public-hex", key.publicKey)] {
        let converted = try await run(folder, "keys", "convert", "env:KEY", "--to", target, environment: environment)
        #expect(converted.output == text + "\n", "\(converted)")
      }
      let piped = try await run(folder, "keys", "convert", "-", "--to", "pkcs8-hex", input: pem)
      #expect(piped.output == key.pkcs8 + "\n")
      let seed = try await run(folder, "keys", "convert", "seed", "--seed", key.type, "--to", "pem", "--output", "new")
      #expect(seed.status == 0)
      #expect(try String(contentsOfFile: folder.path + "/new", encoding: .utf8) == pem)
      let bare = try await run(folder, "keys", "convert", "seed", "--to", "pem")
      #expect(bare.status == 64 && bare.error.contains("may be a public key"))
      let shown = try await run(folder, "keys", "show", "key", "--json")
      #expect(shown.output == #"{"format":"pkcs8-hex","public_key":"\#(key.publicKey)","type":"\#(key.type)"}"# + "\n")
      #expect(!shown.error.contains(key.seed))
      let everything = try await run(folder, "keys", "show", "key", "--private")
      #expect(everything.output.contains(key.seed) && everything.output.contains(pem))
    }
  }

  @Test func whatTheReferenceSignedIsSignedAlike() async throws {
    for item in try SharedVectors.list("ed25519") {
      let payload = try #require(item["payloadJson"] as? String)
      let folder = try TestFolder(["key": item["pem"] as? String ?? "", "payload": payload])
      let signed = try await run(folder, "sign", "--key", "key", "payload")
      let entry = #"{"pubkey":"\#(item["publicKeyHex"] ?? "")","signature":"\#(item["signature"] ?? "")"}"#
      #expect(signed.output == #"{"auth":[\#(entry)],"payload":\#(item["signedText"] ?? "")}"# + "\n", "\(signed)")
      let verified = try await run(folder, "verify", input: signed.output)
      #expect(verified.status == 0 && verified.output == "Signed by \(item["publicKeyHex"] ?? "").\n")
    }
  }

  @Test func whatTheReferenceVerifiesIsVerifiedAlike() async throws {
    let folder = try TestFolder()
    for item in try SharedVectors.list("verifyCases") {
      let key = item["publicKeyHex"] as? String ?? ""
      let entry = #"{"pubkey":"\#(key)","signature":"\#(item["signature"] ?? "")"}"#
      let message = #"{"auth":[\#(entry)],"payload":\#(item["payloadJson"] ?? "")}"#
      let status: Int32 = item["valid"] as? Bool == true ? 0 : 1
      #expect(try await run(folder, "verify", input: message).status == status, "\(item["name"] ?? "")")
    }
    let empty = try await run(folder, "verify", input: #"{"auth":[],"payload":{}}"#)
    #expect(empty.status == 1 && empty.error.contains("has no signature"))
    let none = try await run(folder, "verify", input: "{}")
    #expect(none.status == 1 && none.error.contains("is not signed"))
    #expect(try await run(folder, "verify", input: "{").status == 64)
  }

  @Test func severalSignAndOneIsAskedFor() async throws {
    let folder = try TestFolder(["message": #"{"b":1.0,"a":"\u0041"}"#])
    for name in ["a", "b", "c"] { _ = try await run(folder, "keys", "generate", "--output", name) }
    let keys = try await [publicKey(folder, "a"), publicKey(folder, "b"), publicKey(folder, "c")]
    let both = try await run(folder, "sign", "--key", "a", "--key", "b", "--key", "a", "message")
    #expect(both.output.hasSuffix(#""payload":{"b":1,"a":"A"}}"# + "\n"))
    let verified = try await run(folder, "verify", "--json", input: both.output)
    #expect(verified.output == #"{"invalid":0,"signers":["\#(keys[0])","\#(keys[1])"],"verified":true}"# + "\n")
    let one = try await run(folder, "sign", "--key", "a", "message").output
    let added = try await run(folder, "sign", "--add", "--key", "b", "--key", "a", input: one)
    #expect(try await run(folder, "verify", input: added.output).status == 0)
    // Adding a signature again replaces it.
    #expect(added.output.components(separatedBy: "pubkey").count == 3)

    let forged = both.output.replacingOccurrences(of: keys[1], with: keys[2])
    #expect(try await run(folder, "verify", input: forged).status == 1)
    #expect(try await run(folder, "verify", "--any", input: forged).status == 0)
    #expect(try await run(folder, "verify", "--by", keys[0].uppercased(), input: forged).status == 0)
    #expect(try await run(folder, "verify", "--by", keys[0], "--by", keys[2], input: forged).status == 1)
    #expect(try await run(folder, "verify", "--by", "zz", input: forged).status == 64)
    #expect(try await run(folder, "sign", "--add", "--key", "c", input: forged).status == 1)
    #expect(try await run(folder, "sign", "--add", "--key", "c", "message").status == 1)
    let changed = both.output.replacingOccurrences(of: #""b":1"#, with: #""b":2"#)
    let refused = try await run(folder, "verify", "--json", input: changed)
    #expect(refused.status == 1 && refused.output == #"{"invalid":2,"signers":[],"verified":false}"# + "\n")
    let many = try await run(
      folder, "verify", input: #"{"auth":[\#(String(repeating: "1,", count: 300))1],"payload":1}"#)
    #expect(many.status == 1 && many.error.contains("more than 256 entries"))
  }

  @Test func whatTheReferenceEncryptedIsRead() async throws {
    for item in try SharedVectors.list("encrypted") {
      let folder = try TestFolder(["key": item["recipientPkcs8Hex"] as? String ?? ""])
      let payload = String(
        decoding: try JSONSerialization.data(withJSONObject: try #require(item["payload"])), as: UTF8.self)
      let read = try await run(folder, "decrypt", "--key", "key", input: payload)
      #expect(read.output == "\(item["plaintextUtf8"] ?? "")\n", "\(read)")
    }
    for item in try SharedVectors.list("symmetric") {
      let folder = try TestFolder([
        "password": "\(item["seed"] ?? "")\n", "key": item["keyHex"] as? String ?? "",
        "message": String(
          decoding: try JSONSerialization.data(withJSONObject: try #require(item["payload"])), as: UTF8.self),
      ])
      let read = try await run(
        folder, "decrypt", "--password-file", "password", "--salt", item["salt"] as? String ?? "", "--iterations",
        "\(item["iterations"] ?? "")", "message")
      #expect(read.output == "\(item["plaintextUtf8"] ?? "")\n", "\(read)")
      #expect(try await run(folder, "decrypt", "--key-hex-file", "key", "message").output == read.output)
    }
  }

  @Test func messagesAreEncryptedAndRead() async throws {
    let folder = try TestFolder([
      "message": #"{ "10": 1, "z": 1.50, "2": "\/" }"#, "key": String(repeating: "0a", count: 32),
    ])
    for (type, name) in [("ed25519", "signer"), ("x25519", "reader"), ("x25519", "other")] {
      _ = try await run(folder, "keys", "generate", "--type", type, "--output", name)
    }
    let (signer, reader) = try await (publicKey(folder, "signer"), publicKey(folder, "reader"))
    let plain = #"{"2":"/","10":1,"z":1.5}"#
    let encrypted = try await run(folder, "encrypt", "--to", reader, "message")
    #expect(try await run(folder, "decrypt", "--key", "reader", input: encrypted.output).output == plain + "\n")
    let json = try await run(folder, "decrypt", "--key", "reader", "--json", input: encrypted.output)
    #expect(json.output == #"{"data":\#(plain)}"# + "\n")
    let other = try await run(folder, "decrypt", "--key", "other", input: encrypted.output)
    #expect(other.status == 1 && other.error.contains("Decryption failed") && other.output.isEmpty)
    // Who sent it is asked for, and nobody signed it.
    #expect(try await run(folder, "decrypt", "--key", "reader", "--by", signer, input: encrypted.output).status == 1)

    let sealed = try await run(folder, "sign", "--key", "signer", "--encrypt-to", reader, "message").output
    let opened = try await run(folder, "decrypt", "--key", "reader", "--by", signer, input: sealed)
    #expect(opened.output == plain + "\n" && opened.error == "Signed by \(signer).\n")
    let answer = try await run(folder, "decrypt", "--key", "reader", "--json", input: sealed)
    #expect(answer.output == #"{"data":\#(plain),"invalid":0,"signers":["\#(signer)"],"verified":true}"# + "\n")
    let forged = sealed.replacingOccurrences(of: signer, with: reader)
    let unread = try await run(folder, "decrypt", "--key", "reader", input: forged)
    #expect(unread.status == 1 && unread.output.isEmpty && unread.error.contains("nothing was decrypted"))
    let anyway = try await run(folder, "decrypt", "--key", "reader", "--unverified", input: forged)
    #expect(anyway.status == 0 && anyway.output == plain + "\n" && anyway.error.contains("no signature"))
    let unsigned = #"{"auth":[],"payload":\#(encrypted.output)}"#
    #expect(try await run(folder, "decrypt", "--key", "reader", input: unsigned).status == 1)

    let text = "two\nlines \"quoted\" é\u{1}"
    let byKey = try await run(folder, "encrypt", "--key-hex-file", "key", "--text", input: text)
    #expect(!byKey.output.contains("ephemeralPublicKey"))
    let textRead = try await run(folder, "decrypt", "--key-hex-file", "key", "--text", input: byKey.output)
    #expect(textRead.output == text + "\n")
    let missing = try await run(folder, "decrypt", "--key", "reader", input: byKey.output)
    #expect(missing.status == 1 && missing.error.contains("Missing ephemeral public key"))
    #expect(try await run(folder, "decrypt", "--key", "reader", "message").status == 1)
  }

  @Test func standardInputGivesOneThing() async throws {
    let folder = try TestFolder(["message": "{}"])
    for arguments in [
      ["sign", "--key", "-"], ["sign", "--key", "-", "--key", "-", "message"], ["decrypt", "--key", "-"],
      ["encrypt", "--key-hex-file", "-", "-"], ["send", "--key", "-", "--output", "mutable://open/x=@-"],
      ["encrypt", "message"], ["encrypt", "--to", "00", "--key-hex-file", "k", "message"],
      ["encrypt", "--password-file", "p", "message"], ["sign", "--add", "--encrypt-to", "00", "--key", "k", "message"],
      ["keys", "generate", "--force"], ["sign", "message"], ["send"], ["verify", "none"],
    ] {
      let refused = try await CommandLineRun.run(arguments, directory: folder.path)
      #expect(refused.status == 64, "\(arguments): \(refused)")
    }
  }

  /// Neither an error nor a warning has any of a secret in it.
  @Test func whatGoesWrongTellsNoSecret() async throws {
    let item = try #require(try SharedVectors.list("ed25519").first)
    let pem = try #require(item["pem"] as? String)
    let data = try #require(pem.split(separator: "\n").dropFirst().first)
    let seed = try #require(item["seed"] as? String)
    let folder = try TestFolder([
      "junk": pem.replacingOccurrences(of: data, with: data + "!"), "short": String(data.dropLast(4)),
      "two": pem + "\n" + pem, "none": "-----BEGIN PRIVATE KEY-----\n", "seed": seed, "signer": pem,
      "hex": String(seed.dropLast()) + "g", "message": "{}", "huge": String(repeating: "A", count: 70_000),
    ])
    for (file, reason) in [
      ("junk", "not base64"), ("short", "45 bytes"), ("two", "several blocks"), ("none", "Invalid PEM: no key data"),
      ("seed", "64 hexadecimal digits alone"), ("huge", "longer than 64 KiB"), ("missing", "No such file"),
      ("env:NOWHERE", "NOWHERE is not set"), (".", "directory"),
    ] {
      for command in [
        ["sign", "--key", file, "message"], ["keys", "show", file], ["keys", "convert", file, "--to", "pem"],
      ] {
        let run = try await CommandLineRun.run(command, directory: folder.path)
        #expect(run.status == 64 && run.error.contains(reason), "\(command): \(run)")
        #expect(!(run.output + run.error).contains(data.prefix(30)) && !run.error.contains(seed.prefix(20)))
      }
    }
    let wrongType = try await run(folder, "decrypt", "--key", "signer", input: #"{"data":"","nonce":""}"#)
    #expect(wrongType.status == 64 && wrongType.error.contains("which signs"))
    let digits = try await run(folder, "decrypt", "--key-hex-file", "hex", input: #"{"data":"","nonce":""}"#)
    #expect(
      digits.status == 64 && digits.error.contains("not 64 hexadecimal digits")
        && !digits.error.contains(seed.prefix(20)))
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: folder.path + "/signer")
    let warned = try await run(folder, "keys", "show", "signer")
    #expect(warned.status == 0 && warned.error.contains("others can read signer"))
    #expect(!(warned.output + warned.error).contains(data.prefix(30)) && !warned.output.contains(seed.prefix(20)))
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: folder.path + "/signer")
    #expect(try await run(folder, "keys", "show", "signer").error.isEmpty)
  }

  @Test func envelopesHaveTheDigestOfTheReference() async throws {
    let folder = try TestFolder()
    let item = try #require(try SharedVectors.list("envelopes").dropFirst().first)
    let sent = try await run(
      folder, "send", "--dry-run", "--input", "utxo://alice/1", "--output", "utxo://bob/99=50", "--output",
      "fees://pool=1")
    #expect(
      sent.output.hasPrefix(#"{"tx":["\#(item["uri"] ?? "")",{"payload":{"inputs":["utxo://alice/1"],"#), "\(sent)")
    let odd = try await run(
      folder, "send", "--dry-run", "--program", "hash://other", "--output", #"mutable://open/x=1=2={"a":"b=c"}"#)
    #expect(odd.output.hasPrefix(#"{"tx":["hash://other/"#))
    #expect(odd.output.hasSuffix(#""outputs":[["mutable://open/x=1=2",{"a":"b=c"}]]}}]}"# + "\n"), "\(odd)")
    #expect(try await run(folder, "send", "--dry-run", "--output", "mutable://open/x=hello").status == 64)
    #expect(
      try await run(folder, "send", "msg://a/b", "--program", "x://y", "--output", "mutable://open/x=1").status == 64)
  }

  @Test func envelopesAreSentAsTheyAreSigned() async throws {
    let folder = try TestFolder(["data.json": #" {"n": 1.0} "#])
    _ = try await run(folder, "keys", "generate", "--output", "key")
    let arguments = [
      "send", "--key", "key", "--output", "mutable://open/x=@data.json", "--output", "mutable://open/y=2",
    ]
    let dry = try await CommandLineRun.run(arguments + ["--dry-run"], directory: folder.path)
    #expect(
      dry.output.contains(#""payload":{"inputs":[],"outputs":[["mutable://open/x",{"n":1}],["mutable://open/y",2]]}"#))
    let data = try #require(dry.output.dropLast(3).split(separator: ",", maxSplits: 1).last)
    #expect(try await run(folder, "verify", input: String(data)).status == 0)
    let body = String(dry.output.dropLast())
    let node = try await StubNode { request, received in
      request == "POST /api/v1/receive" && received == body
        ? (.ok, "application/json", Array(#"{"accepted":true}"#.utf8))
        : (.badRequest, "application/json", Array(#"{"accepted":false,"error":"Not so"}"#.utf8))
    }
    let environment = ["BACKPLANE_NODE": node.url]
    let sent = try await CommandLineRun.run(arguments, environment: environment, directory: folder.path)
    #expect(sent.status == 0 && sent.output.hasPrefix("Accepted hash://sha256/"), "\(sent)")
    let json = try await CommandLineRun.run(arguments + ["--json"], environment: environment, directory: folder.path)
    #expect(json.output.hasPrefix(#"{"answer":{"accepted":true},"uri":"hash://sha256/"#))
    let refused = try await CommandLineRun.run(
      arguments + ["--output", "mutable://open/z=3"], environment: environment, directory: folder.path)
    #expect(refused.status == 1 && refused.error.contains("Not so"))
    try await node.stop()
    #expect(try await CommandLineRun.run(arguments, environment: environment, directory: folder.path).status == 69)
  }
}
