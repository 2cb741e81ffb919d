import Glibc

/// What a proposal may name of this machine. It comes over the network: a text in it must not make the kernel read a
/// file or a variable whose content then goes where the proposal says.
struct ProposalReach {
  /// The state directory of the proposing slot, absolute.
  let stateDirectory: String
  /// Where plugins are looked for, absolute.
  let pluginDirectories: [String]

  /// Checks the keys of one slot.
  func check(_ slot: ConfigurationMapping, problems: inout ProblemList) {
    for entry in slot.entries {
      if entry.key == "plugin_path", case .text(let path) = entry.node.value {
        checkPlugin(path, entry.node.origin, problems: &problems)
      }
      check(entry, problems: &problems)
    }
  }

  private func check(_ entry: ConfigurationMapping.Entry, problems: inout ProblemList) {
    if Secrets.isFileKey(entry.key), case .text = entry.node.value {
      problems.add(
        entry.keyOrigin,
        "A proposal may not have a file of this machine read. Give the value itself, under the key "
          + "\(Redaction.quoted(String(entry.key.dropLast("_file".count)))).")
    }
    check(entry.node, problems: &problems)
  }

  private func check(_ node: ConfigurationNode, problems: inout ProblemList) {
    switch node.value {
    case .text(let text): check(text, node.origin, problems: &problems)
    case .list(let nodes): for child in nodes { check(child, problems: &problems) }
    case .mapping(let mapping): for entry in mapping.entries { check(entry, problems: &problems) }
    default: break
    }
  }

  private func check(_ text: String, _ origin: ConfigurationOrigin, problems: inout ProblemList) {
    if let path = IncludedFiles.path(in: text) {
      if !Self.isBelow(ConfigurationFile.absolute(path, base: stateDirectory), [stateDirectory]) {
        problems.add(
          origin, "The file \(Redaction.quoted(path)) is not in the state directory of the slot that proposes it.")
      }
      return
    }
    for placeholder in Self.placeholders(in: text) where placeholder != "state_directory" {
      problems.add(
        origin,
        "A proposal may not take in what this machine holds: leave out "
          + "${\(Redaction.quoted(String(placeholder.prefix(40))).dropFirst().dropLast())}, or write $${ for ${ itself."
      )
      return
    }
  }

  private func checkPlugin(_ path: String, _ origin: ConfigurationOrigin, problems: inout ProblemList) {
    let absolute = ConfigurationFile.absolute(path, base: stateDirectory)
    guard !Self.isBelow(absolute, pluginDirectories + [stateDirectory]) else { return }
    problems.add(
      origin,
      "A proposal may name plugin files in the plugin directories and in the state directory of the slot that "
        + "proposes it; \(Redaction.quoted(path)) is in none of them.")
  }

  /// What stands in `${…}`, as `Secrets` would fill it.
  private static func placeholders(in text: String) -> [String] {
    var found: [String] = []
    var rest = text[...]
    while let dollar = rest.firstIndex(of: "$") {
      rest = rest[dollar...]
      if rest.hasPrefix("$${") {
        rest = rest.dropFirst(3)
      } else if rest.hasPrefix("${") {
        let end = rest.firstIndex(of: "}") ?? rest.endIndex
        found.append(String(rest[rest.index(dollar, offsetBy: 2)..<end]))
        rest = rest[end...]
      } else {
        rest = rest.dropFirst()
      }
    }
    return found
  }

  /// Whether a path lies in one of the folders once every symbolic link on the way has been followed.
  static func isBelow(_ path: String, _ folders: [String]) -> Bool {
    let real = realPath(path)
    return folders.contains { folder in
      let folder = realPath(folder)
      return real.hasPrefix(folder == "/" ? "/" : folder + "/")
    }
  }

  /// Of what does not exist the nearest folder that does counts.
  private static func realPath(_ path: String) -> String {
    var head = path
    var tail = ""
    while head != "/" {
      if let resolved = realpath(head, nil) {
        defer { free(resolved) }
        return (strcmp(resolved, "/") == 0 ? "" : String(cString: resolved)) + tail
      }
      var facts = stat()
      // A link to what is not there yet: nobody knows where it will lead.
      if lstat(head, &facts) == 0 { return "" }
      let folder = ConfigurationFile.directory(of: head)
      tail = (folder == "/" ? String(head) : String(head.dropFirst(folder.count))) + tail
      head = folder
    }
    return tail.isEmpty ? "/" : tail
  }
}
