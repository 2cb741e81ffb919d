/// The name of a plugin to be written, in the forms that its files need.
struct PluginName {
  /// As given; the folder's name.
  let given: String
  /// In lower case with hyphens: `my-ledger`. The last label of the id, a URL scheme, and the library's name.
  let slug: String
  /// `MyLedgerBackend`: the Swift module and its class. Ends in the kind, so that it is no module or type of others.
  let module: String

  static let lengthMax = 63

  /// Throws a sentence when the name will not do.
  init(_ given: String, kind: PluginNew.Kind) throws(CommandFailure) {
    self.given = given
    let characters = Array(given.utf8)
    let isSound =
      characters.allSatisfy { PluginName.isLetterOrDigit($0) || $0 == UInt8(ascii: "-") }
      && characters.first.map(PluginName.isLetter) == true && characters.last != UInt8(ascii: "-")
      && !given.contains("--") && characters.count <= PluginName.lengthMax
    guard isSound else {
      throw CommandFailure(
        .usage,
        "'\(Output.printable(given))' cannot be a plugin's name. Begin with a letter and use letters, digits and single "
          + "hyphens, at most \(PluginName.lengthMax) in all, such as my-ledger.")
    }
    var words: [String] = []
    for part in given.split(separator: "-") { words += PluginName.words(of: Array(part)) }
    slug = words.joined(separator: "-").lowercased()
    var capitalised = words.map { $0.prefix(1).uppercased() + $0.dropFirst() }
    let suffix = kind.rawValue.prefix(1).uppercased() + kind.rawValue.dropFirst()
    if capitalised.count == 1 || capitalised.last?.lowercased() != kind.rawValue { capitalised.append(suffix) }
    module = capitalised.joined()
  }

  /// `HTTPStore` is `HTTP` and `Store`.
  private static func words(of part: [Character]) -> [String] {
    var words: [String] = []
    for (index, character) in part.enumerated() {
      let next = index + 1 < part.count ? part[index + 1] : nil
      let begins =
        index == 0
        || (character.isUppercase && (!part[index - 1].isUppercase || next?.isLowercase == true))
      if begins { words.append("") }
      words[words.count - 1].append(character)
    }
    return words
  }

  private static func isLetter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) && byte < 0x80
  }

  private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
    isLetter(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }
}
