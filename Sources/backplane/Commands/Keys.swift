import ArgumentParser
import MessageCrypto

struct Keys: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make, look at and rewrite keys.", subcommands: [Generate.self, Show.self, Convert.self])

  /// Where a private key goes.
  struct FileOptions: ParsableArguments {
    @Option(
      name: .customLong("output"),
      help: ArgumentHelp(
        "Write to this file, which only its owner can read; else to standard output.", valueName: "path"))
    var path: String?

    @Flag(name: .long, help: "Replace the file if it is there. The key in it is lost.") var force = false

    func validate() throws {
      if force, path == nil { throw ValidationError("--force goes with --output.") }
    }

    /// Writes the lines; false when they went to standard output.
    func write(_ lines: [SecretBytes]) throws -> Bool {
      guard let path else {
        SecretOutput.print(lines)
        return false
      }
      try SecretOutput.write(lines, toFile: path, replaces: force)
      return true
    }
  }

  struct Generate: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      abstract: "Make a private key.",
      discussion: """
        An ed25519 key signs, an x25519 key decrypts. The private key comes as a PEM (PKCS#8), and a line \
        PUBLIC_KEY_HEX=… with the public key follows it.
        """)

    @Option(name: .long, help: "What the key is for.") var type: KeyType = .ed25519
    @OptionGroup var file: FileOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
      let key: PrivateKey = type == .ed25519 ? .ed25519(Ed25519.KeyPair()) : .x25519(X25519.KeyPair())
      var members: [String: JSONValue] = [
        "type": .string(type.rawValue), "public_key": .string(key.publicKeyHex),
      ]
      if output.json, file.path == nil {
        members["private_key_pem"] = .string(key.pem.withUnsafeBytes { String(decoding: $0, as: UTF8.self) })
        return Output.line(JSONValue.object(members).text)
      }
      let publicKey = Array("PUBLIC_KEY_HEX=\(key.publicKeyHex)".utf8)
      guard try file.write([key.pem, publicKey.withUnsafeBytes { SecretBytes(copying: $0) }]) else { return }
      members["file"] = file.path.map { .string($0) }
      Output.line(
        output.json
          ? JSONValue.object(members).text
          : "Wrote \(file.path ?? "").\nThe public key is \(key.publicKeyHex).")
    }
  }

  struct Show: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      abstract: "Print what a private key is for and its public key.",
      discussion: "The private key itself is printed with --private only, in every format.")

    @Argument(help: "The file of a private key, - or env:NAME.") var file: String
    @Flag(name: .long, help: "Print the private key as well.") var `private` = false
    @OptionGroup var output: OutputOptions

    func run() async throws {
      let input = try KeyInput.read(file)
      let formats: [KeyFormat] = `private` ? [.pem, .pkcs8Hex, .seedHex] : []
      guard !output.json else {
        var members: [String: JSONValue] = [
          "type": .string(input.key.type.rawValue), "format": .string(input.format.rawValue),
          "public_key": .string(input.key.publicKeyHex),
        ]
        for format in formats {
          let name = "private_key_" + format.rawValue.split(separator: "-").joined(separator: "_")
          members[name] = .string(input.key.text(format).withUnsafeBytes { String(decoding: $0, as: UTF8.self) })
        }
        return Output.line(JSONValue.object(members).text)
      }
      Output.line("type: \(input.key.type.rawValue)")
      Output.line("format: \(input.format.rawValue)")
      Output.line("public key: \(input.key.publicKeyHex)")
      for format in formats {
        Output.line("\nprivate key, \(format.rawValue):")
        SecretOutput.print([input.key.text(format)])
      }
    }
  }

  struct Convert: AsyncParsableCommand, AnswersInJSON {
    enum Target: String, ExpressibleByArgument, CaseIterable {
      case pem
      case pkcs8Hex = "pkcs8-hex"
      case seedHex = "seed-hex"
      case publicHex = "public-hex"
    }

    static let configuration = CommandConfiguration(
      abstract: "Write a private key in another format, or its public key.",
      discussion: "A key is read as PEM, as base64 alone or as PKCS#8 in hexadecimal; with --seed as 64 digits alone.")

    @Argument(help: "The file of a private key, - or env:NAME.") var file: String
    @Option(name: .long, help: "The format.") var to: Target
    @Option(name: .long, help: "The file holds 64 digits, which are the private key of this type.") var seed: KeyType?
    @OptionGroup var target: FileOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
      let key = try KeyInput.read(file, seedType: seed).key
      let text =
        KeyFormat(rawValue: to.rawValue).map { key.text($0) }
        ?? Array(key.publicKeyHex.utf8).withUnsafeBytes { SecretBytes(copying: $0) }
      var members: [String: JSONValue] = ["type": .string(key.type.rawValue), "format": .string(to.rawValue)]
      if output.json, target.path == nil {
        members["key"] = .string(text.withUnsafeBytes { String(decoding: $0, as: UTF8.self) })
        return Output.line(JSONValue.object(members).text)
      }
      guard try target.write([text]) else { return }
      members["file"] = target.path.map { .string($0) }
      Output.line(output.json ? JSONValue.object(members).text : "Wrote \(target.path ?? "").")
    }
  }
}
