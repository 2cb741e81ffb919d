import Configuration

/// Turns what a layer says about a setting into a checked value, or into a problem.
enum SettingReader {
  /// A value of a file.
  static func read(
    _ setting: Setting, _ node: ConfigurationNode, problems: inout ProblemList
  ) -> ConfigContent? {
    let pointer = JSONPointer.fromDotted(setting.key)
    func refuse(_ expected: String) -> ConfigContent? {
      let quotedNumber =
        switch (setting.kind, node.value) {
        case (.integer, .text(let text)) where Int(text) != nil: " Take the quotes off."
        case (.boolean, .text(let text)) where ["yes", "no", "on", "off"].contains(text.lowercased()):
          " Write true or false."
        default: ""
        }
      problems.add(
        node.origin, pointer: pointer, "The value must be \(expected), but is \(node.value.found).\(quotedNumber)")
      return nil
    }
    switch (setting.kind, node.value) {
    case (.integer(let range), .integer(let value)):
      guard let value = Int(exactly: value), range.contains(value) else { return refuse(expected(setting)) }
      return .int(value)
    case (.boolean, .boolean(let value)): return .bool(value)
    case (.choice, .text(let text)), (.text, .text(let text)), (.path, .text(let text)):
      return read(setting, text: text, node.origin, problems: &problems)
    case (.paths, .list(let nodes)), (.names, .list(let nodes)):
      var texts: [String] = []
      for (index, item) in nodes.enumerated() {
        guard case .text(let text) = item.value, isPlain(text) else {
          problems.add(
            item.origin, pointer: "\(pointer)/\(index)",
            "The entry must be a \(setting.kind == .paths ? "path" : "slot name"), but is \(item.value.found).")
          continue
        }
        texts.append(text)
      }
      return list(setting, texts, node.origin, problems: &problems)
    default: return refuse(expected(setting))
    }
  }

  /// A value of the environment or of a flag, which are texts.
  static func read(
    _ setting: Setting, text: String, _ origin: ConfigurationOrigin, problems: inout ProblemList
  ) -> ConfigContent? {
    let pointer = JSONPointer.fromDotted(setting.key)
    switch setting.kind {
    case .integer(let range):
      if let value = decimal(text), range.contains(value) { return .int(value) }
    case .boolean:
      if text == "true" || text == "false" { return .bool(text == "true") }
    case .choice(let words):
      if words.contains(text) { return .string(text) }
      let suggestion = Suggestion.nearest(to: text, among: words).map { " Did you mean \"\($0)\"?" } ?? ""
      problems.add(
        origin, pointer: pointer,
        "The value must be \(expected(setting)), but is the text \(Redaction.quoted(text)).\(suggestion)")
      return nil
    case .text, .path:
      if isPlain(text) { return .string(text) }
    case .paths:
      return list(setting, text.split(separator: ":").map(String.init), origin, problems: &problems)
    case .names:
      let names = text.split(separator: ",").map { trimmed(String($0)) }.filter { !$0.isEmpty }
      return list(setting, names, origin, problems: &problems)
    }
    problems.add(
      origin, pointer: pointer, "The value must be \(expected(setting)), but is the text \(Redaction.quoted(text)).")
    return nil
  }

  /// A whole number in decimal digits, as people mean it: no sign tricks, no white space, no `1e3`.
  static func decimal(_ text: String) -> Int? {
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    return Int(text)
  }

  static func trimmed(_ text: String) -> String {
    var text = text[...]
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }

  private static func list(
    _ setting: Setting, _ texts: [String], _ origin: ConfigurationOrigin, problems: inout ProblemList
  ) -> ConfigContent? {
    guard !texts.isEmpty, texts.count <= 64 else {
      problems.add(
        origin, pointer: JSONPointer.fromDotted(setting.key),
        "The list must have 1 to 64 entries, but has \(texts.count).")
      return nil
    }
    return .stringArray(texts)
  }

  private static func isPlain(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 4096 && text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F }
  }

  /// What a setting takes, as the rest of "must be …".
  static func expected(_ setting: Setting) -> String {
    switch setting.kind {
    case .integer(let range):
      "a whole number from \(range.lowerBound) to \(range.upperBound)" + (setting.unit.map { " (\($0))" } ?? "")
    case .boolean: "true or false"
    case .choice(let words): "one of \(words.joined(separator: ", "))"
    case .text: "a text of 1 to 4096 bytes without control characters"
    case .path: "a path"
    case .paths: "a list of paths"
    case .names: "a list of slot names"
    }
  }
}
